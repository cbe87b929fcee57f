from __future__ import annotations

import gzip
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentrl.errors import CheckpointError
from agentrl.runs import RunDirectory, default_run_dir, environment_manifest, read_metrics
from agentrl.runs import directory as directory_module
from agentrl.runs.files import read_json, read_rollouts, to_json
from agentrl.runs.identity import run_hash
from agentrl.runs.manifest import _without_secrets
from agentrl.runs.place import check_place
from agentrl.runs.traces import from_trace, to_trace
from agentrl.types import Grade, StopReason
from tests.factories import make_rollout

CONFIG = "name: toy\nseed: 17\nppo:\n  steps: 20\n  learning_rate: 1.0e-05\n"


def new_run(path: Path) -> RunDirectory:
    return RunDirectory.create(path, config_yaml=CONFIG, manifest={"python": "3.11"})


def all_paths(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_new_run_holds_its_config_and_manifest(tmp_path: Path) -> None:
    with new_run(tmp_path / "deep" / "run") as run:
        assert (run.path / "config.yaml").read_text() == CONFIG
        assert json.loads((run.path / "manifest.json").read_text()) == {"python": "3.11"}
        assert run.checkpoint_path("last") == run.path / "checkpoints" / "last"
        assert run.read_metrics() == []


def test_an_empty_directory_may_become_a_run(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    assert (tmp_path / "manifest.json").exists()


def test_a_directory_with_foreign_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(CheckpointError, match=r"not empty \(it holds config\.yaml\): choose another --run-dir"):
        new_run(tmp_path)
    assert all_paths(tmp_path) == {"config.yaml"}
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_a_finished_run_is_refused_and_resume_named(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    with pytest.raises(CheckpointError, match="already holds a run: go on in it with --resume"):
        new_run(tmp_path)


def test_a_run_in_use_is_refused_with_the_pid(tmp_path: Path) -> None:
    with new_run(tmp_path):
        for again in (lambda: new_run(tmp_path), lambda: RunDirectory.open(tmp_path, CONFIG)):
            with pytest.raises(CheckpointError, match=rf"in use by pid {os.getpid()} .*--run-dir.*--resume"):
                again()
    RunDirectory.open(tmp_path, CONFIG).close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from agentrl.runs import RunDirectory\n"
        f"run = RunDirectory.create(Path(sys.argv[1]), config_yaml={CONFIG!r}, manifest={{}})\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(CheckpointError, match=f"in use by pid {process.pid} "):
                RunDirectory.open(tmp_path, CONFIG)
        finally:
            process.send_signal(signal.SIGKILL)
    RunDirectory.open(tmp_path, CONFIG).close()


def test_what_a_creation_left_that_was_killed_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("")
    (tmp_path / "rollouts").mkdir()
    (tmp_path / ".config.yaml.1.partial").write_text("na")
    new_run(tmp_path).close()
    assert (tmp_path / "config.yaml").read_text() == CONFIG


@pytest.mark.parametrize("name", ["file/run", "file"])
def test_a_parent_that_cannot_hold_it_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=str(tmp_path / "file")):
        new_run(tmp_path / name)
    assert all_paths(tmp_path) == {"file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_parent_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match=f"Permission denied .in {tmp_path}"):
        new_run(tmp_path / "run")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("failing", ["config.yaml", "manifest.json"])
def test_a_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    write_text = directory_module.write_text

    def fail(path: Path, text: str) -> None:
        if path.name == failing:
            raise OSError(28, "No space left on device")
        write_text(path, text)

    monkeypatch.setattr(directory_module, "write_text", fail)
    with pytest.raises(CheckpointError, match="No space left on device"):
        new_run(tmp_path / "runs" / "one")
    assert all_paths(tmp_path) == set()


def test_a_run_that_came_and_went_during_creation_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = directory_module.RunLock.acquire

    def late(run: Path) -> directory_module.RunLock:
        monkeypatch.undo()
        new_run(run).close()
        return acquire(run)

    monkeypatch.setattr(directory_module.RunLock, "acquire", late)
    with pytest.raises(CheckpointError, match="already holds a run"):
        new_run(tmp_path / "run")
    RunDirectory.open(tmp_path / "run", CONFIG).close()


def test_resume_shows_how_the_config_differs(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    changed = CONFIG.replace("1.0e-05", "2.0e-05").replace("seed: 17\n", "") + "tools: [a]\n"
    with pytest.raises(CheckpointError) as caught:
        RunDirectory.open(tmp_path, changed)
    message = str(caught.value)
    assert "ppo.learning_rate: 1e-05 in the run, 2e-05 now" in message
    assert "seed: 17 in the run, absent now" in message
    assert "tools[0]: absent in the run, 'a' now" in message
    assert message.endswith("--allow-change ppo.learning_rate --allow-change seed --allow-change tools[0]")
    assert (tmp_path / "config.yaml").read_text() == CONFIG
    RunDirectory.open(tmp_path, CONFIG).close()  # the refusal held no lock


@pytest.mark.parametrize("allowed", [["ppo.learning_rate", "seed"], ["ppo", "seed"]], ids=["keys", "a section"])
def test_a_change_that_is_allowed_is_recorded_and_is_none_the_next_time(tmp_path: Path, allowed: list[str]) -> None:
    new_run(tmp_path).close()
    changed = CONFIG.replace("1.0e-05", "2.0e-05").replace("17", "18")
    with pytest.raises(CheckpointError, match=r"--allow-change seed$"):
        RunDirectory.open(tmp_path, changed, {}, allow_change=allowed[:1])
    RunDirectory.open(tmp_path, changed, {}, allow_change=allowed).close()
    assert (tmp_path / "config.yaml").read_text() == changed
    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["resumed"]
    assert entry["changes"] == [
        {"key": "ppo.learning_rate", "before": 1e-05, "after": 2e-05},
        {"key": "seed", "before": 17, "after": 18},
    ]
    RunDirectory.open(tmp_path, changed, {}).close()


def test_a_key_does_not_allow_its_namesakes(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, config_yaml="ppo: {steps_a: 1}\n", manifest={}).close()
    with pytest.raises(CheckpointError, match=r"ppo\.steps_a: 1 in the run, 2 now"):
        RunDirectory.open(tmp_path, "ppo: {steps_a: 2}\n", allow_change=["ppo.steps", "p"])


VERSIONS = {"model": "m", "dataset": "d", "tokenizer": "t", "grader": None, "tools": {"look": "1"}, "agentrl": "1"}


@pytest.mark.parametrize("key", ["dataset", "tokenizer", "grader"])
def test_other_data_another_tokenizer_or_grader_is_another_run(tmp_path: Path, key: str) -> None:
    RunDirectory.create(tmp_path, config_yaml=CONFIG, manifest={"versions": VERSIONS}).close()
    now = {"versions": {**VERSIONS, key: "new", "agentrl": "2"}}
    with pytest.raises(CheckpointError, match=rf"\n  versions\.{key}: {VERSIONS[key]!r} in the run, 'new' now\n"):
        RunDirectory.open(tmp_path, CONFIG, now)
    RunDirectory.open(tmp_path, CONFIG, now, allow_change=[f"versions.{key}"]).close()
    RunDirectory.open(tmp_path, CONFIG, now).close()  # the run has this version now
    with pytest.raises(CheckpointError, match="'new' in the run"):
        RunDirectory.open(tmp_path, CONFIG, {"versions": VERSIONS})


def test_a_run_of_other_weights_cannot_be_allowed(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, config_yaml=CONFIG, manifest={"versions": VERSIONS}).close()
    with pytest.raises(CheckpointError, match=r"other weights:\n  versions\.model: 'm' in the run, 'n' now"):
        RunDirectory.open(tmp_path, CONFIG, {"versions": {**VERSIONS, "model": "n"}}, allow_change=["versions"])


@pytest.mark.parametrize("name", VERSIONS)
def test_another_version_of_anything_is_another_run_hash(name: str) -> None:
    config = {"seed": 17}
    plain = run_hash(config, VERSIONS)
    assert plain == run_hash(dict(config), dict(reversed(VERSIONS.items())))
    assert len({plain, run_hash(config, {**VERSIONS, name: "other"}), run_hash({"seed": 18}, VERSIONS)}) == 3


def test_resume_may_change_the_number_of_steps(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    longer = CONFIG.replace("20", "40")
    with RunDirectory.open(tmp_path, longer, manifest={"python": "3.12"}) as run:
        assert (run.path / "config.yaml").read_text() == longer
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    change = {"key": "ppo.steps", "before": 20, "after": 40}
    assert manifest == {"python": "3.11", "resumed": [{"python": "3.12", "changes": [change]}]}


@pytest.mark.parametrize("resume", [False, True])
def test_a_place_is_looked_at_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool) -> None:
    if resume:
        new_run(tmp_path / "run").close()
    before = all_paths(tmp_path)
    check_place(tmp_path / "run", resume=resume)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who may run this test, may write everywhere
    denied = tmp_path / "run" if resume else tmp_path
    with pytest.raises(CheckpointError, match=f"run cannot be written: no permission to write in {denied}$"):
        check_place(tmp_path / "run", resume=resume)
    assert all_paths(tmp_path) == before
    with pytest.raises(CheckpointError, match="already holds a run" if resume else "holds no run to resume"):
        check_place(tmp_path / "run", resume=not resume)


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run to resume"):
        RunDirectory.open(tmp_path / "none", CONFIG)
    assert all_paths(tmp_path) == set()


def test_metrics_come_back_as_written_and_non_finite_numbers_as_null(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        run.append_metrics({"step": 1, "reward": np.float32(0.5), "kl": math.nan, "grad_norm": math.inf})
        run.append_metrics({"step": np.int64(2), "nested": {"list": [1, -math.inf]}})
        assert read_metrics(tmp_path) == [
            {"step": 1, "reward": 0.5, "kl": None, "grad_norm": None},
            {"step": 2, "nested": {"list": [1, None]}},
        ]


def test_metrics_are_replaced_whole_even_behind_a_torn_line(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        for step in (1, 2):
            run.append_metrics({"step": step})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "rew')
        assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
        run.replace_metrics([{"step": 1}])
        run.append_metrics({"step": 2})
        assert run.read_metrics() == [{"step": 1}, {"step": 2}]


def test_a_run_goes_on_without_traces_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with new_run(tmp_path) as run:
        monkeypatch.setattr(os, "fsync", full)
        run.keep_rollouts("train-000001", [make_rollout()], told.append)
        monkeypatch.undo()
        run.keep_rollouts("train-000002", [make_rollout()], told.append)
        assert run.lost_rollouts == ["train-000001"]
    assert len(told) == 1
    assert "train-000001.jsonl.gz cannot be written: No space left on device" in told[0]
    assert [path.name for path in (tmp_path / "rollouts").iterdir()] == ["train-000002.jsonl.gz"]


def test_what_the_disk_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with new_run(tmp_path) as run:
        monkeypatch.setattr(os, "fsync", full)
        for write in (lambda: run.append_metrics({}), lambda: run.replace_metrics([]), lambda: run.write_summary({})):
            with pytest.raises(CheckpointError, match=rf"^{tmp_path}/\w+\.jsonl? cannot be written: No space"):
                write()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_directory_that_is_no_longer_the_runs_is_noticed_and_not_made_again(tmp_path: Path, how: str) -> None:
    with new_run(tmp_path / "run") as run:
        run.check()
        shutil.rmtree(run.path)
        if how == "replaced":
            new_run(run.path).close()
        with pytest.raises(CheckpointError, match="is no longer the directory that this run was started in"):
            run.check()
        if how == "deleted":
            with pytest.raises(CheckpointError, match=r"metrics\.jsonl cannot be written"):
                run.append_metrics({})
            run.keep_rollouts("train-000001", [make_rollout()], lambda _: None)
            assert not run.path.exists()


def test_a_damaged_line_inside_is_an_error_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\noops\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl:2 is damaged"):
        read_metrics(tmp_path)


def test_a_rollout_is_written_with_its_full_trace(tmp_path: Path) -> None:
    rollout = make_rollout("q7", 2, 0.5, ("search", "cat"), 12, policy_version=3, answer="\ud800 7 %")
    with new_run(tmp_path) as run:
        path = run.write_rollouts("validation-0005", iter([rollout, make_rollout(score=None)]))
        first, second = run.read_rollouts("validation-0005")
    assert path == tmp_path / "rollouts" / "validation-0005.jsonl.gz"
    assert first["prompt_ids"] == [1, 2, 3]
    assert [turn["token_ids"] for turn in first["turns"]] == [list(turn.token_ids) for turn in rollout.turns]
    assert first["turns"][0]["engine_logprobs"][0] == -0.123457
    assert first["turns"][0]["observation_ids"] == [7, 8]
    assert first["turns"][0]["tool_calls"][0]["name"] == "search"
    assert first["turns"][0]["tool_results"][0]["output"] == "some text"
    assert (first["grade"]["score"], first["stop_reason"], first["output_tokens"]) == (0.5, StopReason.FINAL, 12)
    assert (first["policy_versions"], first["answer"], first["seconds"]) == ([3], "\ud800 7 %", 1.0)
    assert (first["outcome"], first["failure_class"], first["retries"]) == ("completed", None, 0)
    assert (second["outcome"], second["failure_class"]) == ("infra_failed", "grader")
    assert (second["grade"]["score"], second["grade"]["reason"]) == (None, "grader refused the connection")


def test_a_trace_reads_back_to_the_whole_grade() -> None:
    grade = Grade(
        0.5,
        seconds=0.25,
        sub_scores={"answer": 1.0},
        turn_scores=(0.5,),
        explanation="the numbers agree",
        errors=("sample_parse_error",),
        version="sha256:1",
        cost_usd=0.002,
        tokens={"judge": {"prompt": 3}},
        holdout={"gold": 0.0},
    )
    rollout = replace(make_rollout(), grade=grade)
    assert from_trace(json.loads(to_json(to_trace(rollout)))).grade == grade
    old = to_trace(rollout) | {"grade": {"score": 1.0, "reason": "", "seconds": 0.0, "sub_scores": {}}}
    assert from_trace(old).grade == Grade(1.0)


def test_the_same_rollouts_give_the_same_bytes(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        one, two = (run.write_rollouts(name, [make_rollout()]).read_bytes() for name in ("one", "two"))
    assert one == two


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield make_rollout("new")
        raise KeyboardInterrupt

    with new_run(tmp_path) as run:
        run.write_rollouts("train-0001", [make_rollout("old")])
        with pytest.raises(KeyboardInterrupt):
            run.write_rollouts("train-0001", broken())
        run.write_summary({"steps": 1})
        with pytest.raises(TypeError):
            run.write_summary({"steps": object()})
        assert [trace["task_id"] for trace in run.read_rollouts("train-0001")] == ["old"]
        assert json.loads((tmp_path / "summary.json").read_text()) == {"steps": 1}
    assert not list(tmp_path.rglob("*.partial"))


def test_missing_and_damaged_rollouts_are_named(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        path = run.write_rollouts("test", [make_rollout()])
        with pytest.raises(CheckpointError, match="does not exist; recorded here: test"):
            run.read_rollouts("tset")
        path.write_bytes(gzip.compress(b"{}\n")[:-6])
        with pytest.raises(CheckpointError, match="is damaged"):
            run.read_rollouts("test")
        with pytest.raises(ValueError, match="cannot name a file"):
            run.write_rollouts("../test", [])


def test_default_names_do_not_collide(tmp_path: Path) -> None:
    first = default_run_dir("my/run", tmp_path)
    first.mkdir()
    second = default_run_dir("my/run", tmp_path)
    assert first.parent == second.parent == tmp_path
    assert first.name.startswith("my-run-20")
    assert first != second


def test_the_manifest_is_complete_and_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    manifest = environment_manifest()
    assert manifest["git_commit"] is None
    assert manifest["packages"]["numpy"] == np.__version__
    assert manifest["started_at"].endswith("+00:00")
    json.dumps(manifest)


def test_the_manifest_hides_secrets_of_the_command_line() -> None:
    shown = _without_secrets(
        [
            "agentrl",
            "--api-key",
            "k1",
            "--token=k2",
            "tools.headers.Authorization=Bearer k3",
            "x=Bearer k4",
            "grading.headers.Authorization=${FINQA_TOKEN}",
            "rollout.max_turn_tokens=256",
            "ppo.token_penalty.cap=0.1",
        ]
    )
    assert not any(f"k{number}" in argument for argument in shown for number in range(1, 5))
    assert shown[-3:] == [
        "grading.headers.Authorization=${FINQA_TOKEN}",
        "rollout.max_turn_tokens=256",
        "ppo.token_penalty.cap=0.1",
    ]


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "rollouts/train-000001.jsonl.gz"])
def test_files_without_a_bottom_are_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / "rollouts").mkdir()
    deep = b"[" * 100_000 + b"\n{}\n"
    (tmp_path / name).write_bytes(gzip.compress(deep) if name.endswith(".gz") else deep)
    read = {
        "summary.json": lambda: read_json(tmp_path, name),
        "metrics.jsonl": lambda: read_metrics(tmp_path),
    }.get(name, lambda: read_rollouts(tmp_path, "train-000001"))
    with pytest.raises(CheckpointError, match="is damaged"):
        read()
