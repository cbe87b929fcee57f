"""`agentrl plan`: what it prints, without torch, and its forecast against real runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.config import load_config
from agentrl.runs import read_rollouts
from agentrl.training import train

ROOT = Path(__file__).parents[2]


def plan(*arguments: str, config: str = "toy.yaml") -> Result:
    return CliRunner().invoke(app, ["plan", config, *arguments])


def figures(*arguments: str, config: str = "toy.yaml") -> dict[str, dict[str, Any]]:
    result = plan(*arguments, "--json", config=config)
    assert result.exit_code == 0, result.output
    return {figure["name"]: figure for figure in json.loads(result.stdout)["figures"]}


def rollouts_of(run: Path) -> dict[str, list[dict[str, Any]]]:
    names = [path.name.split(".")[0] for path in (run / "rollouts").iterdir()]
    return {name: read_rollouts(run, name) for name in names}


def requests_of(traces: list[dict[str, Any]]) -> int:
    results = [result for trace in traces for turn in trace["turns"] for result in turn["tool_results"]]
    return sum(result["seconds"] > 0 for result in results)


def test_assumptions_are_shown_with_their_sources(toy: Path) -> None:
    printed = plan("--calls-per-episode", "1.5", "--usd-per-hour", "2").stdout
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in printed.splitlines() if len(line.split()) > 2}
    assert lines["calls_per_episode"] == ["1.5", "given"]
    assert lines["tokens_per_turn"] == ["12", "rollout.max_turn_tokens: at most"]
    assert lines["tool_seconds"] == ["0.2", "a default"]
    assert lines["prompt_tokens"][1] == "train tasks in the baseline's chat template"
    assert figures("--calls-per-episode", "1.5")["tool_calls_per_step"]["value"] == 36


def test_nothing_heavy_is_loaded(toy: Path) -> None:
    code = (
        "import sys; sys.argv = ['agentrl', 'plan', 'toy.yaml']\n"
        "from agentrl.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({'torch', 'transformers', 'trl', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=toy, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "episodes_per_step" in done.stdout


def test_the_latency_can_be_asked_of_the_endpoints(toy: Path) -> None:
    slow = plan("--probe", "--json", "--set", "tools.serve[0].command[2]=slow")
    found = json.loads(slow.stdout)["assumptions"]
    assert found["tool_seconds"]["source"] == "median of a few calls"
    assert 0.05 <= found["tool_seconds"]["value"] < 5
    assert found["grader_seconds"]["value"] > 0


def test_a_real_run_makes_the_planned_episodes_and_calls(toy: Path) -> None:
    """Counts of the first run are exact; those of another seed lie within the stated error."""
    before = figures()
    done = {}
    for seed in (17, 18):
        run = toy / f"run-{seed}"
        train(load_config("toy.yaml", [f"seed={seed}"]), run_dir=run)
        done[seed] = rollouts_of(run)

    episodes = {name: len(traces) for name, traces in done[17].items()}
    assert [episodes[f"train-{step:06d}"] for step in range(3)] == [before["episodes_per_step"]["value"]] * 3
    most = before["episodes"]["value"]
    fewest = int(before["episodes"]["note"].split("; ")[1].split()[0])
    assert fewest <= sum(episodes.values()) <= most
    prompts = [len(trace["prompt_ids"]) for trace in done[17]["train-000001"]]
    assert before["prompt_tokens"]["value"] / most == pytest.approx(sum(prompts) / len(prompts), rel=0.03)

    after = figures("--from-run", "run-17")
    forecast = after["tool_calls_per_step"]
    assert forecast["error"] > 0
    for step in (1, 2):
        assert abs(requests_of(done[18][f"train-{step:06d}"]) - forecast["value"]) <= forecast["error"]
    trained = [trace for step in (1, 2) for trace in done[17][f"train-{step:06d}"]]
    sampled = sum(trace["output_tokens"] for trace in trained) / 2
    assert after["sampled_tokens_per_step"]["value"] == pytest.approx(sampled)
    assert after["rollout_seconds_per_step"]["value"] > 0


def test_a_run_without_steps_is_no_source(toy: Path) -> None:
    result = plan("--from-run", "nowhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nowhere" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "examples/finqa/baseline").is_dir(), reason="`make baseline` makes the baseline")
def test_the_smoke_run_is_as_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config, sets = "configs/smoke.yaml", ["ppo.steps=1", "evaluation.run_test=false"]
    options = [word for each in sets for word in ("--set", each)]
    before = figures(*options, config=config)
    run = tmp_path / "run"
    train(load_config(config, sets), run_dir=run)
    done = rollouts_of(run)
    assert len(done["train-000001"]) == before["episodes_per_step"]["value"]
    assert sum(map(len, done.values())) <= before["episodes"]["value"]
    everything = [trace for traces in done.values() for trace in traces]
    assert requests_of(done["train-000001"]) <= before["tool_calls_per_step"]["value"]  # the budget bounds it
    assert sum(trace["output_tokens"] for trace in everything) <= before["sampled_tokens"]["value"]
    prompts = sum(len(trace["prompt_ids"]) for trace in everything) / len(everything)
    assert before["prompt_tokens"]["value"] / before["episodes"]["value"] == pytest.approx(prompts, rel=0.05)
    after = figures(*options, "--from-run", str(run), config=config)["tool_calls_per_step"]
    assert abs(requests_of(done["train-000000"]) - after["value"]) <= after["error"]
