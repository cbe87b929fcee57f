"""`agentrl probe`: verdict and figures to stdout, progress to stderr, files where they are asked for, no others."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import closing
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.config import load_config
from agentrl.evaluation.evaluation_files import read_evaluation
from agentrl.evaluation.probe.collect import ProbeOptions
from agentrl.evaluation.probe.run import probe
from tests.scripted_api import ScriptedApi, completion, in_turns


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["probe", "toy.yaml", *arguments])


def test_a_probe_prints_pictures_figures_and_the_verdict_and_writes_nothing(toy: Path) -> None:
    before = sorted(toy.rglob("*"))
    result = run("-n", "4")
    assert sorted(toy.rglob("*")) == before
    assert result.exit_code in (0, 4)  # six items hardly decide it
    assert result.stdout.startswith("train, 3 items x 4, sorted by mean score\n 1.00 |")
    for part in ("validation, 3 items x 4", "best of 4", "pass@4", "pass^4", "8 (planned)", "the run", "verdict: "):
        assert part in result.stdout
    for part in ("loading baseline", "rolling out 6 items x 4", "step 24/24", "grading 24 answers 2 more times"):
        assert part in result.stderr
    assert "step" not in result.stdout.replace("step_", "")


def test_the_files_are_a_page_a_record_and_evaluations_that_others_read(toy: Path) -> None:
    result = run("--out", "found/here", "--json", "--train-items", "2", "--grades", "1")
    record = json.loads(result.stdout)
    assert sorted(path.name for path in (toy / "found/here").iterdir()) == [
        "probe.html", "probe.json", "probe.svg", "train.json", "train.rollouts.jsonl.gz", "validation.json",
        "validation.rollouts.jsonl.gz",
    ]  # fmt: skip
    assert json.loads((toy / "found/here/probe.json").read_text()) == record
    assert (toy / "found/here/probe.html").read_text().startswith("<!doctype html>")
    found = read_evaluation(toy / "found/here/validation.json")
    assert (found.report.n_items, found.report.samples_per_item, found.name) == (3, 3, "baseline on validation")
    assert len(read_evaluation(toy / "found/here/train.json").rollouts) == 6
    assert record["repeatability"] is None
    assert "grader_not_repeated" in {reason["code"] for reason in record["reasons"]}
    assert record["plan"]["figures"][2]["name"] == "episodes"


def test_the_figures_are_those_of_the_rollouts_that_were_written(toy: Path) -> None:
    """Computed once more from the traces, by nothing that the probe is made of."""
    record = json.loads(run("--out", "found", "--json", "-n", "3").stdout)
    for figures in record["splits"]:
        with gzip.open(toy / "found" / f"{figures['split']}.rollouts.jsonl.gz", "rt") as file:
            traces = [json.loads(line) for line in file]
        by_item: dict[str, list[float]] = {}
        for trace in traces:
            by_item.setdefault(trace["task_id"], []).append(trace["grade"]["score"])
        groups = list(by_item.values())
        assert figures["n_items"] == len(groups) == 3
        assert figures["mean"]["value"] == pytest.approx(fmean(map(fmean, groups)))
        assert figures["best_of"]["best"]["value"] == pytest.approx(fmean(map(max, groups)))
        assert figures["groups"]["varied"] == sum(len(set(each)) > 1 for each in groups)
        for k in (1, 2, 3):
            subsets = [[each[i] >= 0.75 for i in chosen] for each in groups for chosen in combinations(range(3), k)]
            assert figures["passes"]["pass_at_k"][str(k)]["value"] == pytest.approx(fmean(map(any, subsets)))
            assert figures["passes"]["pass_hat_k"][str(k)]["value"] == pytest.approx(fmean(map(all, subsets)))
        assert figures["mean"]["interval"][0] <= figures["mean"]["value"] <= figures["mean"]["interval"][1]


def test_the_samples_of_validation_are_those_that_a_run_starts_from(toy: Path) -> None:
    """Equal seeds: what a run of this config will measure of its baseline, a probe has measured before it."""
    from agentrl.evaluation.contender import PolicySource, open_contender, served
    from agentrl.evaluation.evaluate import evaluate

    config = load_config(toy / "toy.yaml")

    async def measured(base_url: str) -> dict[tuple[str, int], Any]:
        async with open_contender(config, PolicySource.find(), base_url) as contender:
            _, found = await evaluate(
                contender.engine, contender.splits.validation, samples_per_item=3, pass_threshold=0.75,
                seed=f"{config.seed}/validation",
            )  # fmt: skip
            return {(each.task.id, each.sample_index): each.grade.score for each in found}

    with served(config) as base_url:
        expected = asyncio.run(measured(base_url))
    report = probe(config)
    seen = {(item.task_id, i): score for item in report.items for i, score in enumerate(item.scores)}
    assert {key: seen[key] for key in expected} == expected
    assert report._repr_html_().startswith("<iframe")


def test_it_can_be_asked_for_inside_a_running_event_loop(toy: Path) -> None:
    async def cell() -> str:
        return probe(load_config(toy / "toy.yaml"), options=ProbeOptions(samples=2, items=1, train_items=0)).verdict

    assert asyncio.run(cell()) in ("trainable", "weak", "not", "unmeasured")


def test_a_grader_that_gives_no_scores_leaves_it_unmeasured(toy: Path) -> None:
    config = yaml.safe_load(Path("toy.yaml").read_text())
    config["tools"]["serve"][0]["command"][-1] = "dies"
    Path("toy.yaml").write_text(yaml.safe_dump(config))
    result = run()
    assert result.exit_code == 4
    assert "unmeasured infrastructure: 18 of 18 rollouts have no score" in result.stdout
    assert "verdict: unmeasured" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--items", "0", "--train-items", "0"],
            "--items and --train-items: found 0 and 0",
        ),
        (["-n", "1"], "--samples"),
        (["--grades", "0"], "--grades"),
        (["--policy", "nowhere"], "--policy nowhere: no such folder"),
        (["--policy", "nowhere@best"], "nowhere holds no run"),
        (["--api-model", "m"], "--api-model m: found no --api-url"),
        (["--api-url", "http://127.0.0.1:1/v1"], "--api-url"),
        (["--out", "toy.yaml"], "--out toy.yaml: the folder cannot be made"),
        (["--set", "ppo.samples=3"], "ppo.samples"),
        (["--set", "data.train=missing.jsonl"], "missing.jsonl"),
    ],
)
def test_wrong_input_is_told_before_anything_is_loaded(toy: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_splits_that_share_items_are_refused(toy: Path) -> None:
    (toy / "validation.jsonl").write_text((toy / "train.jsonl").read_text())
    result = run()
    assert result.exit_code == 2
    assert "splits overlap" in result.stderr


def test_a_model_behind_an_api_is_probed_without_the_baseline(toy: Path) -> None:
    say = in_turns(completion("", ("look", {"key": "a"})), completion("yes", output=3))
    with closing(ScriptedApi(say)) as api:
        options = ["--api-model", "gpt-x", "--api-url", api.url, "--set", "rollout.prices.usd_per_tool_call=0.5"]
        result = run(*options, "--json")
        planned = run(*options, "--set", "workflow.baseline=nowhere", "--json", "--grades", "1")
    record = json.loads(result.stdout)
    assert (record["policy"], record["mean"]["value"], record["conduct"]["cost_usd"]) == ("gpt-x", 1.0, 9.0)
    assert record["conduct"]["calls_per_episode"] == 1
    given = record["plan"]["assumptions"]
    assert given["tokens_per_turn"]["value"] == 4
    assert given["prompt_tokens"]["value"] > 0
    assert given["sampled_tokens_per_second"]["source"].startswith("a default")
    assert json.loads(planned.stdout)["plan"] is None
    assert "nowhere" in json.loads(planned.stdout)["unplanned"]


def test_ctrl_c_says_that_nothing_is_kept(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agentrl.evaluation.probe.run.probe", interrupted)
    result = run()
    assert (result.exit_code, result.stdout) == (130, "")
    assert "nothing of it is kept, and the same command starts anew" in result.stderr
