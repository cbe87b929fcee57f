"""`agentrl sft` and `agentrl dpo` as a user meets them; what they compute is tested in tests/stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from agentrl.cli.main import app
from tests.engine_fixtures import make_tokenizer, qwen3
from tests.stages.test_course import StopAfter
from tests.stages.test_sft import conversation, write


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tokenizer = make_tokenizer()
    qwen3(len(tokenizer), eos_token_id=tokenizer.eos_token_id).save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    train = write(tmp_path / "train.jsonl", [conversation(answer) for answer in ("yes", "no", "so", "na")])
    section = {
        "model": str(tmp_path / "start"), "output": str(tmp_path / "out"), "batch_size": 1, "threads": 1,
        "train": str(train), "validation": str(train),
    }  # fmt: skip
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump({"sft": section}))
    return tmp_path / "sft.yaml"


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_results_go_to_stdout_and_progress_to_stderr(config: Path) -> None:
    folder = config.parent / "run"
    result = run("sft", config, "--run-dir", folder)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "conversations: 4" in lines
    assert any(line.startswith("validation_loss: 4.") and " -> " in line for line in lines)
    assert f"output: {config.parent / 'out'}" in lines
    assert lines[-1].startswith("4 steps, ")
    assert lines[-1].endswith(f"; run directory: {folder}")
    assert "step 4/4  loss " in result.stderr
    again = run("sft", config, "--run-dir", folder)
    assert (
        again.stderr == f"error: {folder} already holds a run: go on in it with --resume, or choose another --run-dir\n"
    )


def test_an_interrupted_stage_says_how_to_go_on(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = config.parent / "run"
    with monkeypatch.context() as patch:
        patch.setattr("agentrl.progress.reporter_for", lambda: StopAfter(2))
        result = run("sft", config, "--run-dir", folder, "--set", "sft.learning_rate=1.0e-4")
    assert result.exit_code == 130
    assert result.stdout.startswith("2 steps, ")
    assert result.stderr.splitlines() == [
        "interrupted; the last checkpoint is saved. Go on with:",
        f"  agentrl sft {config} --run-dir {folder} --resume --set sft.learning_rate=1.0e-4",
    ]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["stopped_by"], summary["steps"]) == ("interrupted", 2)
    refused = run("sft", config, "--run-dir", folder, "--resume")
    assert refused.exit_code == 2
    assert "sft.learning_rate: 0.0001 in the run, 2e-05 now" in refused.stderr
    assert "--allow-change sft.learning_rate" in refused.stderr
    done = run("sft", config, "--run-dir", folder, "--resume", "--allow-change", "sft.learning_rate", "--json")
    assert json.loads(done.stdout)["steps"] == 4


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--resume"], "--resume needs to know the run: add --run-dir DIR"),
        (["--allow-change", "sft"], "--allow-change is about a run that is gone on with: add --resume"),
        (["--run-dir", "nowhere", "--resume"], "nowhere holds no run to resume"),
        (["--set", "sft.beta=1"], "sft.beta: unknown key"),
        (["--set", "sft.lora.rank=0"], "sft.lora.rank: found 0; allowed: a whole number of at least 1"),
    ],
)
def test_wrong_options_are_told_at_once(config: Path, arguments: list[str], found: str) -> None:
    result = run("sft", config, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert found in result.stderr
    assert not (config.parent / "out").exists()


def test_a_file_for_another_verb_is_named(config: Path) -> None:
    assert "this is a config for `agentrl sft`, not for `agentrl dpo`" in run("dpo", config).stderr
