"""`agentrl train` in several processes: the same run as in one, and an orderly end where one of them dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agentrl.runs import read_json, read_rollouts
from agentrl.runs.token_facts import read_token_facts
from agentrl.training import train
from tests.engine_fixtures import chance_policy, make_tokenizer
from tests.toy_run import metrics, toy_run

pytestmark = pytest.mark.slow

TIMES = ("seconds", "latency", "memory")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The folder of a toy run: three tasks a step, whose rollouts are the same whoever draws them."""
    tokenizer = make_tokenizer()
    chance_policy(tokenizer).save_pretrained(tmp_path / "baseline")
    tokenizer.save_pretrained(tmp_path / "baseline")
    changes: dict[str, Any] = {
        "inference": {"deterministic": True},
        "ppo": {"tasks_per_step": 3, "steps": 3, "microbatch_tokens": 200, "learning_rate": 1e-3},
        "checkpoint": {"keep_last": 50},
    }
    toy_run(tmp_path, tmp_path / "baseline", **changes)
    return tmp_path


def alone(toy: Path, run_dir: Path, *overrides: str, resume: bool = False) -> None:
    from agentrl.config import load_config

    torch.set_num_threads(1)
    result = train(load_config(toy / "toy.yaml", overrides), run_dir=run_dir, resume=resume)
    assert result.stopped_by is None


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **variables}


def advantages(run: Path, name: str) -> list[float]:
    """Of every token that the step learned from."""
    kept = [read_token_facts(run, name, rollout["id"]) for rollout in read_rollouts(run, name)]
    return [value for facts in kept if facts for turn in facts.advantages for value in turn if value is not None]


@contextmanager
def two_processes(toy: Path, run_dir: Path, *overrides: str) -> Iterator[list[subprocess.Popen[str]]]:
    """`agentrl train` twice, as a launcher starts it, but with nobody who looks after them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sets = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "agentrl", "train", str(toy / "toy.yaml"), "--run-dir", str(run_dir), *sets]
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            command,
            env=environment(**meeting, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def wait_for_steps(run_dir: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (run_dir / "metrics.jsonl").exists() or len(metrics(run_dir)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_launch_with_shards_is_the_run_of_one_process_and_goes_on_in_one(toy: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
    shown = next(block for block in page.split("```") if "distributed_type: FSDP" in block)
    (toy / "accelerate.yaml").write_text(shown.removeprefix("yaml other"))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(toy / "accelerate.yaml")]
    verb = ["-m", "agentrl", "train", str(toy / "toy.yaml"), "--run-dir", str(toy / "two"), "--set", "policy.lora=null"]
    done = subprocess.run(
        [*launch, "--main_process_port", "0", *verb], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes, weights in shards" in done.stderr
    assert done.stderr.count("step 1/3") == done.stdout.count("run directory:") == 1

    alone(toy, toy / "one", "policy.lora=null")
    for row, wanted in zip(metrics(toy / "two"), metrics(toy / "one"), strict=True):
        found, expected = ({k: v for k, v in each.items() if not k.startswith(TIMES)} for each in (row, wanted))
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5, nan_ok=True)
    for name in ("validation-baseline", "train-000001", "train-000002"):
        one, two = (
            [[t["token_ids"] for t in r["turns"]] for r in read_rollouts(toy / d, name)] for d in ("one", "two")
        )
        assert one == two
    one, two = (load_file(toy / d / "checkpoints/step-000003/policy/model.safetensors") for d in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6)

    one, two = ([advantages(toy / d, f"train-{step:06d}") for step in (1, 2, 3)] for d in ("one", "two"))
    assert two == [pytest.approx(values, abs=1e-3) for values in one]  # of whichever rank's tokens

    alone(toy, toy / "two", "policy.lora=null", "ppo.steps=4", resume=True)
    assert [row["step"] for row in metrics(toy / "two")] == [1, 2, 3, 4]


@pytest.mark.parametrize("dying", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_rank_that_dies_ends_the_others_with_its_name_and_a_run_to_go_on_with(toy: Path, dying: int) -> None:
    run = toy / "run"
    with two_processes(toy, run, "ppo.steps=1000", "evaluation.every_steps=1000") as started:
        wait_for_steps(run, 2, started[0])
        started[dying].kill()
        survivor = started[1 - dying]
        _, said = survivor.communicate(timeout=60)
    assert survivor.returncode == 1
    assert f"rank {dying} of 2 ended without a word" in said
    assert f"--resume --run-dir {run}" in said
    assert "Traceback" not in said
    before = len(list((run / "checkpoints").glob("step-*")))
    alone(toy, run, f"ppo.steps={before + 1}", "evaluation.every_steps=1000", resume=True)
    assert read_json(run, "summary.json")["steps"] == before + 1


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param((), id="in turns", marks=pytest.mark.long),
        pytest.param(("ppo.overlap=true", "ppo.max_staleness=1"), id="overlapped"),
    ],
)
def test_a_signal_to_one_rank_checkpoints_once_and_ends_all(toy: Path, mode: tuple[str, ...]) -> None:
    run = toy / "run"
    with two_processes(toy, run, "ppo.steps=1000", "evaluation.every_steps=1000", *mode) as started:
        wait_for_steps(run, 2, started[0])
        started[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [130, 130]
    assert said[0][1].count("interrupted; the last checkpoint is saved") == 1
    assert said[1] == ("", "")
    assert read_json(run, "summary.json")["stopped_by"] == "interrupted"
