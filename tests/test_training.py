from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers.utils import logging as transformers_logging

from agentrl.cli.train import how_to_resume
from agentrl.config import RunConfig, load_config
from agentrl.errors import AgentRLError, BaselineError, CheckpointError, ConfigError, TrainingStopped
from agentrl.policy.policy import folder_digest
from agentrl.rollout.engine import RolloutEngine
from agentrl.runs import RunDirectory, read_rollouts
from agentrl.training import TrainingResult, train
from tests.engine_fixtures import END, TEMPLATE, make_tokenizer

ROOT = Path(__file__).parents[1]
SERVER = Path(__file__).with_name("toy_server.py")
TIMES = ("seconds", "latency", "memory")
FIGURES = {"reward", "success_rate", "tool_calls", "output_tokens", "latency_seconds", "n_items", "samples_per_item"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass
class Toy:
    """A folder with data and the config of a run that takes a second."""

    folder: Path
    sections: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        path = self.folder / "toy.yaml"
        path.write_text(yaml.safe_dump(self.sections))
        return path

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def config(self, *overrides: str) -> RunConfig:
        return load_config(self.path, overrides)

    def train(self, *overrides: str, **options: Any) -> TrainingResult:
        return train(self.config(*overrides), **{"run_dir": self.run_dir, **options})

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agentrl", "train", str(self.path), "--run-dir", str(self.run_dir), *arguments]


@pytest.fixture
def toy(tmp_path: Path, baseline: Path) -> Toy:
    for split, count in (("train", 8), ("validation", 6), ("test", 4)):
        names = [f"{split}-{n}" for n in range(count)]
        rows = [{"id": name, "messages": [{"role": "user", "content": f"{name}?"}]} for name in names]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    headers = {"Authorization": "Bearer ${TOY_TOKEN}"}
    sections = {
        "name": "toy",
        "workflow": {"target": "toy", "baseline": str(baseline)},
        "data": {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation", "test")},
        "policy": {"device": "cpu", "threads": 1, "value_hidden_size": 16},
        "inference": {"max_batch": 16},
        "tools": {
            "serve": [{"command": ["{python}", str(SERVER), "normal"], "env": {"TOY_TOKEN": "${random}"}}],
            "endpoints": [{"name": "look", "server_url": "{serve}/look", "headers": headers, "retries": 0}],
        },
        "grading": {"name": "toy", "url": "{serve}/grade", "headers": headers, "retries": 0},
        "rollout": {"max_tool_calls": 2, "max_turn_tokens": 12, "max_context_tokens": 350},
        "ppo": {
            "steps": 2, "tasks_per_step": 4, "samples_per_task": 4, "learning_rate": 3e-3, "minibatches": 2,
            "value_learning_rate": 1e-2, "critic_warmup_steps": 3, "kl": {"coef": 0.01},
            "guards": {"max_kl_per_token": 100.0},
        },
        "evaluation": {"every_steps": 2, "samples_per_item": 2},
        "checkpoint": {"every_steps": 1, "keep_last": 2},
    }  # fmt: skip
    return Toy(tmp_path, sections)


def mode(toy: Toy, name: str) -> None:
    toy.sections["tools"]["serve"][0]["command"][-1] = name


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def assert_same_steps(one: Path, other: Path) -> None:
    """Equal metrics but for times, and for the last bits: rounding depends on who shared a batch by chance."""
    for row, expected in zip(metrics(one), metrics(other), strict=True):
        figures, others = ({k: v for k, v in each.items() if not k.startswith(TIMES)} for each in (row, expected))
        assert figures == pytest.approx(others, rel=1e-3, abs=1e-5, nan_ok=True)


def sampled(run_dir: Path, name: str) -> list[Any]:
    turns = [[turn["token_ids"] for turn in trace["turns"]] for trace in read_rollouts(run_dir, name)]
    assert turns
    return turns


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_run_directory_is_complete(toy: Toy, baseline: Path, capfd: pytest.CaptureFixture[str]) -> None:
    digest = folder_digest(baseline)
    result = toy.train()
    run = toy.run_dir
    assert (result.run_dir, result.stopped_by) == (run, None)
    for name in ("config.yaml", "manifest.json", "metrics.jsonl", "summary.json", "report.html", "serve-0.log"):
        assert (run / name).stat().st_size > 0, name
    assert "listening on" in (run / "serve-0.log").read_text()
    assert [row["step"] for row in metrics(run)] == [1, 2]
    shown = {"reward_train", "kl_per_token", "entropy", "grad_norm", "tool_calls_look", "output_tokens"}
    assert shown <= metrics(run)[0].keys()
    assert {path.name for path in (run / "rollouts").iterdir()} == {
        *(f"train-00000{n}.jsonl.gz" for n in range(3)),
        *(f"validation-{n}.jsonl.gz" for n in ("baseline", "000002", "final")),
        *(f"test-{n}.jsonl.gz" for n in (("baseline", "best") if result.summary["best_step"] else ("baseline",))),
    }
    checkpoints = {path.name for path in (run / "checkpoints").iterdir()}
    assert checkpoints >= {"step-000001", "step-000002", "best", "policy-000000", "start.json"}
    assert checkpoints <= {"step-000001", "step-000002", "best", "policy-000000", "policy-000002", "start.json"}
    assert (run / "checkpoints" / "best").resolve().name == f"policy-{result.summary['best_step']:06d}"
    trace = read_rollouts(run, "train-000001")[0]
    assert {"prompt_ids", "turns", "grade", "seconds", "stop_reason"} <= trace.keys()
    summary = json.loads((run / "summary.json").read_text())
    for policy in ("baseline", "final", "best"):
        assert summary[policy].keys() >= FIGURES, policy
        assert (summary[policy]["n_items"], summary[policy]["samples_per_item"]) == (6, 2)
    for policy in ("baseline", "best"):
        assert summary["test"][policy].keys() >= FIGURES, policy
    assert summary["steps"] == 2
    assert summary["wall_seconds"] > 0
    assert summary["peak_rss_bytes"] > 50e6
    assert summary["reference_digest_before"] == summary["reference_digest_after"]
    assert summary["seed"] == 17
    assert sum(summary["quadrants"].values()) == 6
    assert summary["same_tool_repeats"].keys() == {"baseline", "final", "best"}
    assert folder_digest(baseline) == digest
    assert "Loading weights" not in capfd.readouterr().err
    assert transformers_logging.is_progress_bar_enabled()


def test_the_policy_learns_to_say_what_is_graded(toy: Toy) -> None:
    summary = toy.train(
        "ppo.steps=12", "ppo.samples_per_task=8", "ppo.learning_rate=0.01", "evaluation.run_test=false",
        "evaluation.every_steps=12", "evaluation.samples_per_item=8", "checkpoint.every_steps=12",
    ).summary  # fmt: skip
    assert summary["final"]["reward"] > summary["baseline"]["reward"] + 0.3
    assert summary["best_step"] == 12


def test_without_a_learning_rate_nothing_changes(toy: Toy, baseline: Path) -> None:
    result = toy.train("ppo.learning_rate=0", "ppo.value_learning_rate=0.01")
    summary = result.summary
    assert summary["final"]["reward"] == summary["baseline"]["reward"] == summary["best"]["reward"]
    assert summary["best_step"] == 0
    assert summary["quadrants"]["equal_equal"] == 6
    assert sampled(toy.run_dir, "validation-final") == sampled(toy.run_dir, "validation-baseline")
    before, after = weights(baseline), weights(toy.run_dir / "checkpoints" / "step-000002" / "policy")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_resumed_run_equals_an_uninterrupted_one(toy: Toy) -> None:
    whole, parts = toy.folder / "whole", toy.folder / "parts"
    toy.train("ppo.steps=4", run_dir=whole)
    toy.train("ppo.steps=2", run_dir=parts)
    summary = toy.train("ppo.steps=4", run_dir=parts, resume=True).summary
    assert summary["steps"] == 4
    for step in range(5):
        name = f"train-{step:06d}"
        assert sampled(whole, name) == sampled(parts, name)
    assert_same_steps(parts, whole)
    assert sampled(whole, "validation-final") == sampled(parts, "validation-final")
    one, other = (weights(run / "checkpoints" / "step-000004" / "policy") for run in (whole, parts))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_a_run_interrupted_in_an_evaluation_measures_again(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's line is written, its validation figures are not: neither is lost, nor is the step taken twice."""
    from agentrl.evaluation import measure

    whole, parts = toy.folder / "whole", toy.folder / "parts"
    toy.train("ppo.steps=3", run_dir=whole)
    plain = measure.evaluate

    async def interrupted(*arguments: Any, **options: Any) -> Any:
        if options["name"] == "validation-000002":
            raise asyncio.CancelledError
        return await plain(*arguments, **options)

    monkeypatch.setattr(measure, "evaluate", interrupted)
    result = toy.train("ppo.steps=3", run_dir=parts)
    assert (result.stopped_by, [row["step"] for row in metrics(parts)]) == ("interrupted", [1, 2])
    monkeypatch.undo()
    result = toy.train("ppo.steps=3", run_dir=parts, resume=True)
    assert result.stopped_by is None
    assert_same_steps(parts, whole)


def test_a_run_interrupted_before_its_first_step_begins_again(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint from before the critic's warm-up would skip it when resumed."""
    from agentrl.ppo.trainer import PPOTrainer

    def interrupted(*_: Any) -> Any:
        raise asyncio.CancelledError

    whole, parts = toy.folder / "whole", toy.folder / "parts"
    toy.train(run_dir=whole)
    with monkeypatch.context() as patch:
        patch.setattr(PPOTrainer, "warm_up_critic", interrupted)
        assert toy.train(run_dir=parts).stopped_by == "interrupted"
    assert list((parts / "checkpoints").glob("step-*")) == []
    baseline = parts / "rollouts" / "validation-baseline.jsonl.gz"
    baseline.unlink()
    assert toy.train(run_dir=parts, resume=True).stopped_by is None
    assert not baseline.exists()  # it was measured already
    assert_same_steps(parts, whole)


def test_a_non_finite_loss_keeps_the_last_good_checkpoint(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentrl.ppo.trainer import PPOTrainer

    plain = PPOTrainer.update

    def update(self: PPOTrainer, trajectories: Any) -> dict[str, float]:
        if self.policy.version == 1:
            with torch.no_grad():
                self.policy.model.lm_head.weight.add_(0.001)  # what the minibatches before the bad one did
            raise FloatingPointError("gradient norm nan")
        return plain(self, trajectories)

    monkeypatch.setattr(PPOTrainer, "update", update)
    kept = toy.run_dir / "checkpoints" / "step-000001"
    saved: list[str] = []
    monkeypatch.setattr(
        "agentrl.training.saving.prune",
        lambda *_, **__: saved.append((kept / "digests.json").read_text()) if kept.exists() else None,
    )
    result = toy.train("evaluation.run_test=false", "evaluation.every_steps=1")
    assert (result.stopped_by, result.summary["steps"]) == ("non_finite", 1)
    assert [(kept / "digests.json").read_text()] == saved


def test_an_outage_that_does_not_end_stops_the_run_before_it_learns_from_the_rest(toy: Toy) -> None:
    mode(toy, "dies")
    result = toy.train("ppo.guards.max_outage_seconds=0.2")
    assert (result.stopped_by, result.summary["steps"]) == ("ungraded", 0)
    assert not (toy.run_dir / "metrics.jsonl").exists()
    assert list((toy.run_dir / "checkpoints").iterdir()) == []  # when resumed it measures the baseline again
    withheld = read_rollouts(toy.run_dir, "withheld")
    assert {trace["outcome"] for trace in withheld} == {"infra_failed"}
    assert "answered 500" in withheld[0]["grade"]["reason"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def aim(toy: Toy, port: int) -> None:
    """Use a server that somebody else keeps."""
    toy.sections["tools"]["serve"] = []
    toy.sections["tools"]["endpoints"][0]["server_url"] = f"http://127.0.0.1:{port}/look"
    toy.sections["grading"]["url"] = f"http://127.0.0.1:{port}/grade"


class Servers:
    """A toy server on one port, which somebody starts again two seconds after it went down."""

    def __init__(self, *modes: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.modes = modes
        self.lives = 0
        self._process = self._start()
        self._supervisor = threading.Thread(target=self._watch, daemon=True)
        self._supervisor.start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(SERVER), self.modes[self.lives], str(self.port)]
        process = subprocess.Popen(command, env={**os.environ, "TOY_TOKEN": "t"}, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        self.lives += 1
        return process

    def _watch(self) -> None:
        while self._process.wait() == 1 and self.lives < len(self.modes):
            time.sleep(2)
            self._process = self._start()

    def stop(self) -> None:
        self._process.kill()
        self._supervisor.join()


def assert_same_run(one: Path, other: Path) -> None:
    """Equal to the last bit: sampling is deterministic."""
    for step in (1, 2):
        assert sampled(one, f"train-{step:06d}") == sampled(other, f"train-{step:06d}")
        found, expected = (weights(path / "checkpoints" / f"step-{step:06d}" / "policy") for path in (one, other))
        assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("comes_back", [True, False], ids=["it comes back", "somebody resumes the run"])
def test_a_server_that_goes_down_in_a_step_changes_no_weight(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """Its 100th request is in one of the two steps: the baseline takes some 20, the critic's warm-up some 30."""
    monkeypatch.setenv("TOY_TOKEN", "t")
    toy.sections["inference"]["deterministic"] = True
    toy.sections["ppo"]["guards"]["max_outage_seconds"] = 60.0 if comes_back else 0.5
    calm, disturbed = toy.folder / "calm", toy.folder / "disturbed"
    port = free_port()
    aim(toy, port)

    def run(path: Path, *modes: str, **options: Any) -> TrainingResult:
        servers = Servers(*modes, port=port)
        try:
            return toy.train(run_dir=path, **options)
        finally:
            servers.stop()
            assert servers.lives == len(modes)

    assert run(calm, "normal").stopped_by is None
    if comes_back:
        assert run(disturbed, "crashes", "normal").stopped_by is None
        assert sum(row["rolled_out_again"] for row in metrics(disturbed)) > 0
        assert sum(row["seconds_paused"] for row in metrics(disturbed)) > 1
    else:
        stopped = run(disturbed, "crashes")
        assert (stopped.stopped_by, stopped.summary["steps"] < 2) == ("ungraded", True)
        assert "infra_failed" in {trace["outcome"] for trace in read_rollouts(disturbed, "withheld")}
        assert run(disturbed, "normal", resume=True).stopped_by is None
    assert_same_run(disturbed, calm)


def open_now(port: int) -> list[str]:
    reply = httpx.post(f"http://127.0.0.1:{port}/open-now", json={}, headers={"Authorization": "Bearer t"})
    return list(reply.json()["open"])


@pytest.mark.slow
@pytest.mark.parametrize("resume", [True, False], ids=["resumed", "another run beside it"])
def test_sandboxes_that_a_killed_run_left_open_are_closed_at_the_next_start(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    monkeypatch.setenv("TOY_TOKEN", "t")
    servers = Servers("slow")
    aim(toy, servers.port)
    url, headers = f"http://127.0.0.1:{servers.port}", {"Authorization": "Bearer ${TOY_TOKEN}"}
    lifecycle = {"open_url": f"{url}/open", "close_url": f"{url}/close", "headers": headers}
    toy.sections["tools"]["lifecycle"] = lifecycle
    command = toy.command("--set", "ppo.steps=1000")
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_for(toy.run_dir / "checkpoints" / "step-000001" / "digests.json")
        while not open_now(servers.port):  # stopped, so that none is closed between the look and the end
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
            process.send_signal(signal.SIGSTOP)
        process.kill()
        process.wait()
        left = open_now(servers.port)
        assert left
        result = toy.train(run_dir=toy.run_dir if resume else toy.folder / "other", resume=resume)
        assert result.stopped_by is None
        assert open_now(servers.port) == []
        ledger = (toy.run_dir / "sandboxes.jsonl").read_text().splitlines()
        closed = [line for line in ledger if '"closed"' in line]
        assert all(any(trace in line for line in closed) for trace in left)
    finally:
        process.kill()
        servers.stop()


def test_a_guard_stops_the_run_and_it_is_still_measured(toy: Toy) -> None:
    result = toy.train("ppo.guards.max_grad_norm=1.0e-9", "evaluation.run_test=false")
    assert (result.stopped_by, result.summary["steps"]) == ("grad_norm", 1)
    assert result.summary["final"]["n_items"] == 6


@pytest.mark.parametrize(
    ("after", "steps"),
    [(0, 0), (2, 0), (3, 1), (4, 2), (5, 2)],
    ids=["baseline", "step 1", "step 2", "evaluation of step 2", "final evaluation"],
)
def test_an_engine_may_stop_the_run_at_any_time(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, after: int, steps: int
) -> None:
    """Runs of the rollout engine: the baseline, the critic's warm-up, step 1, step 2, its evaluation, the final one."""
    plain, runs = RolloutEngine.run, list[str]()

    async def run(self: RolloutEngine, *arguments: Any, **options: Any) -> Any:
        runs.append(str(options["seed"]))
        if len(runs) > after:
            raise TrainingStopped("weights", "the server does not serve the policy")
        return await plain(self, *arguments, **options)

    monkeypatch.setattr(RolloutEngine, "run", run)
    result = toy.train()
    assert (result.stopped_by, result.summary["steps"]) == ("weights", steps)
    monkeypatch.undo()
    result = toy.train(resume=True)
    assert (result.stopped_by, result.summary["steps"]) == (None, 2)
    assert metrics(toy.run_dir)[-1]["reward_validation"] >= 0
    assert result.summary["final"]["n_items"] == 6


def test_no_steps_only_measure_the_baseline(toy: Toy) -> None:
    summary = toy.train("ppo.steps=0").summary
    assert summary["final"] == summary["best"] == summary["baseline"]
    assert summary["test"]["baseline"]["n_items"] == 4


def test_it_works_where_a_loop_is_running(toy: Toy) -> None:
    """A notebook's cells run inside an event loop."""

    async def cell() -> TrainingResult:
        return toy.train("ppo.steps=1", "evaluation.run_test=false")

    assert asyncio.run(cell()).summary["steps"] == 1


def test_a_notebook_is_interrupted_as_a_terminal_is(toy: Toy) -> None:
    mode(toy, "slow")

    async def cell() -> TrainingResult:
        return toy.train("ppo.steps=1000")

    def press() -> None:
        wait_for(toy.run_dir / "metrics.jsonl")
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    presser = threading.Thread(target=press)
    loop = asyncio.new_event_loop()
    try:
        presser.start()
        result = loop.run_until_complete(cell())  # asyncio.run would take the signal for itself
    finally:
        signal.signal(signal.SIGINT, before)
        presser.join()
        loop.close()
    assert result.stopped_by == "interrupted"
    assert result.summary["steps"] >= 1


def wait_for(path: Path, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(toy: Toy, number: signal.Signals) -> None:
    mode(toy, "slow")
    command = toy.command("--set", "ppo.steps=1000")
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(toy.run_dir / "metrics.jsonl")
        with pytest.raises(CheckpointError, match=f"is in use by pid {process.pid}"):
            RunDirectory.open(toy.run_dir, "")
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert how_to_resume(toy.path, toy.run_dir, ["ppo.steps=1000"]) in errors
    assert "Traceback" not in errors
    summary = json.loads((toy.run_dir / "summary.json").read_text())
    steps = summary["steps"]
    assert (summary["stopped_by"], len(metrics(toy.run_dir))) == ("interrupted", steps)
    assert (toy.run_dir / "checkpoints" / f"step-{steps:06d}" / "digests.json").exists()
    result = toy.train(f"ppo.steps={steps + 1}", resume=True)
    assert result.summary["steps"] == steps + 1


def spoil(toy: Toy, how: str) -> None:
    """Make the config one that cannot be trained with."""
    folder = toy.folder / "spoilt"
    shutil.copytree(toy.sections["workflow"]["baseline"], folder)
    workflow, endpoint = toy.sections["workflow"], toy.sections["tools"]["endpoints"][0]
    if how == "missing baseline":
        workflow["baseline"] = str(toy.folder / "nothing")
    elif how == "no weights":
        workflow["baseline"] = str(folder)
        (folder / "model.safetensors").unlink()
    elif how == "damaged weights":
        workflow["baseline"] = str(folder)
        (folder / "model.safetensors").write_bytes(b"\x08" * 100)
    elif how == "changed baseline":
        workflow.update(baseline=str(folder), baseline_digest=folder_digest(folder))
        (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    elif how == "no tool syntax":
        workflow["baseline"] = str(folder)
        make_tokenizer(TEMPLATE.replace("tool_call>", "call>")).save_pretrained(folder)
    elif how == "no end of turn":
        workflow["baseline"] = str(folder)
        make_tokenizer(TEMPLATE.replace(END, "")).save_pretrained(folder)
    elif how == "no GPU":
        toy.sections["policy"]["device"] = "cuda"
    elif how == "tool down":
        endpoint["server_url"] = "http://127.0.0.1:1/look"
    elif how == "wrong token":
        endpoint["headers"] = {"Authorization": "Bearer ${HOME}"}
    elif how == "no number":
        mode(toy, "text")
    elif how == "server ends":
        toy.sections["tools"]["serve"][0]["command"] = ["{python}", "-c", "print('no such table')"]
    elif how == "long prompt":
        row = {"id": "long", "messages": [{"role": "user", "content": "x" * 400}]}
        with (toy.folder / "validation.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    elif how == "short model":
        toy.sections["rollout"]["max_context_tokens"] = 1024


BAD = {
    "missing baseline": (BaselineError, "workflow.baseline: no folder"),
    "no weights": (BaselineError, "holds no model.safetensors"),
    "damaged weights": (BaselineError, "cannot be loaded"),
    "changed baseline": (BaselineError, "changed: workflow.baseline_digest pins"),
    "no tool syntax": (BaselineError, "does not write tool calls"),
    "no end of turn": (BaselineError, "does not end an assistant turn"),
    "tool down": (ConfigError, "tool look at http://127.0.0.1:1/look"),
    "wrong token": (ConfigError, "answered 401"),
    "no number": (ConfigError, "found score 'good'; a grader answers {'score': a number}"),
    "server ends": (ConfigError, "no such table"),
    "long prompt": (ConfigError, "task 'long': found a prompt of"),
    "short model": (ConfigError, "at most 512, the baseline's max_position_embeddings"),
}


@pytest.mark.parametrize("how", BAD)
def test_bad_input_is_found_before_a_run_directory_exists(toy: Toy, how: str) -> None:
    kind, message = BAD[how]
    spoil(toy, how)
    with pytest.raises(kind) as caught:
        toy.train()
    assert message in str(caught.value)
    assert not toy.run_dir.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_not_assumed(toy: Toy) -> None:
    spoil(toy, "no GPU")
    with pytest.raises(ConfigError, match="torch sees no GPU here"):
        toy.train()
    assert not toy.run_dir.exists()


def test_bad_input_exits_2_with_one_message(toy: Toy) -> None:
    spoil(toy, "wrong token")
    done = subprocess.run(toy.command(), env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error", "- "))]
    assert lines[0] == "error: 1 of 2 endpoints cannot be used:"
    assert lines[1].startswith("- tool look at http://127.0.0.1:")
    assert "Traceback" not in done.stderr
    assert not toy.run_dir.exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_directory_in_use_is_refused(toy: Toy, resume: bool) -> None:
    with (
        RunDirectory.create(toy.run_dir, config_yaml="a: 1\n", manifest={}),
        pytest.raises(CheckpointError, match="is in use by pid"),
    ):
        toy.train(resume=resume)


def test_a_run_is_not_overwritten(toy: Toy) -> None:
    toy.train("ppo.steps=0", "evaluation.run_test=false")
    with pytest.raises(CheckpointError, match="already holds a run"):
        toy.train()
    with pytest.raises(CheckpointError, match="\n  seed: 17 in the run, 3 now\n"):
        toy.train("seed=3", resume=True)
    with pytest.raises(CheckpointError, match="resume needs to know the run"):
        toy.train(run_dir=None, resume=True)


def test_nothing_is_left_running(toy: Toy) -> None:
    spoil(toy, "wrong token")
    with pytest.raises(AgentRLError):
        toy.train()
    found = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in found.splitlines() if line.split()[0] == str(os.getpid()) and SERVER.name in line]
