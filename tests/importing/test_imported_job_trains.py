"""The file that `agentrl import openai` writes is one that `agentrl check` likes and `agentrl train` trains with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.config import ServeConfig, load_config
from agentrl.tools.serve import serving
from agentrl.training import train
from tests.toy_run import SERVER, metrics

SECRET = "a-token-that-nobody-may-copy"
JOBS = Path(__file__).with_name("jobs")


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def job(url: str, grader: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {SECRET}"}
    reinforcement = {
        "grader": grader,
        "tools": [{"name": "look", "server_url": f"{url}/look", "headers": headers}],
        "max_episode_steps": 2,
        "hyperparameters": {
            "batch_size": 4, "n_epochs": 1, "compute_multiplier": 0.5, "eval_interval": 2, "eval_samples": 1,
        },
    }  # fmt: skip
    method = {"type": "reinforcement", "reinforcement": reinforcement}
    return {"model": "o4-mini", "training_file": "file-1", "validation_file": "file-2", "seed": 3, "method": method}


def rows(path: Path, count: int) -> None:
    questions = [{"role": "user", "content": f"{path.stem} {n}?"} for n in range(count)]
    path.write_text("".join(json.dumps({"messages": [each], "reference_answer": "yes"}) + "\n" for each in questions))


def test_an_imported_job_trains(tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("files").mkdir()
    rows(Path("files/train.jsonl"), 8)
    rows(Path("files/validation.jsonl"), 2)
    server = ServeConfig(command=("{python}", str(SERVER), "normal"), env={"TOY_TOKEN": SECRET})
    with serving([server], {}) as (url, *_):
        grader = {
            "type": "multi",
            "name": "both",
            "graders": {
                "remote": {"type": "endpoint", "url": f"{url}/grade", "headers": {"Authorization": f"Bearer {SECRET}"}},
                "exact": {"type": "string_check", "name": "exact", "operation": "ilike",
                          "input": "{{ sample.output_text }}", "reference": "{{item.reference_answer}}"},
            },
            "calculate_output": "0.5 * remote + 0.5 * exact",
        }  # fmt: skip
        Path("job.json").write_text(json.dumps(job(url, grader)))
        done = run("import", "openai", "job.json", "--out", "run.yaml", "--baseline", baseline, "--data", "files")
        assert done.exit_code == 0, done.output
        assert "n_epochs = 1 -> ppo.steps: 2 (1 x 8 rows / 4 a step, rounded up)\n" in done.output
        assert "TOOLS_TOKEN: Authorization of look, Authorization of remote" in done.output
        assert SECRET not in done.output + Path("run.yaml").read_text()
        checked = run("check", "run.yaml")
        assert checked.exit_code == 0, checked.output

        monkeypatch.setenv("TOOLS_TOKEN", SECRET)
        config = load_config("run.yaml", ["policy.threads=1", "ppo.critic_warmup_steps=0"])
        result = train(config, run_dir=tmp_path / "run")
    steps = [line for line in metrics(result.run_dir) if line.get("step")]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(line["policy_loss"] is not None for line in steps)
    traces = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert SECRET.encode() not in traces


def test_a_config_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "run.yaml"
    out.write_text("mine")
    refused = run("import", "openai", JOBS / "foundry.json", "--out", out)
    assert (refused.exit_code, out.read_text()) == (2, "mine")
    assert "exists already; choose another name, or replace it with --force" in refused.output
    assert run("import", "openai", JOBS / "foundry.json", "--out", out, "--force").exit_code == 0
    assert "workflow" in yaml.safe_load(out.read_text())


def test_data_that_would_stop_a_training_is_exit_code_1_and_the_config_is_written(tmp_path: Path) -> None:
    rows(tmp_path / "train.jsonl", 10)
    (tmp_path / "validation.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    done = run("import", "openai", JOBS / "foundry.json", "--out", tmp_path / "run.yaml", "--data", tmp_path)
    assert done.exit_code == 1
    assert "To repair before training:" in done.output
    assert "splits overlap" in done.output
    assert (tmp_path / "run.yaml").is_file()


def test_the_account_is_json_where_machines_ask(tmp_path: Path) -> None:
    done = run("import", "openai", JOBS / "demo_hours.json", "--out", tmp_path / "run.yaml", "--json")
    account = json.loads(done.stdout)
    assert {line["hosted"] for line in account["mapping"]} >= {"batch_size = 16", "compute_multiplier = 1"}
    assert account["variables"]["TOOLS_TOKEN"]
    assert account["problems"] == []


def test_t17_what_a_job_says_is_harmless_on_a_terminal(tmp_path: Path) -> None:
    body = json.loads((JOBS / "foundry.json").read_text())
    body["model"] = "m\x1b[2J\u202eevil"
    (tmp_path / "job.json").write_text(json.dumps(body))
    done = run("import", "openai", tmp_path / "job.json", "--out", tmp_path / "run.yaml")
    assert done.exit_code == 0
    assert not re.search("[\x1b\u202e]", done.output + (tmp_path / "run.yaml").read_text())


def test_the_page_shows_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/import-openai.md").read_text()
    monkeypatch.chdir(tmp_path)
    Path("downloads").mkdir()
    rows(Path("downloads/train.jsonl"), 200)
    rows(Path("downloads/validation.jsonl"), 20)
    Path("job.json").write_text(page.split("```json\n")[1].split("```")[0])
    command = next(line for line in page.splitlines() if line.startswith("agentrl import openai"))
    done = run(*command.split()[1:])
    assert f"```\n{done.output}```\n" in page
