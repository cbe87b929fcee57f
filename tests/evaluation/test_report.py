from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from agentrl.evaluation import evaluate_rollouts, evaluation_summary, write_report
from agentrl.evaluation.charts import Series, line_chart, number, stacked_bars, ticks
from agentrl.evaluation.samples import choose_samples
from agentrl.runs import RunDirectory
from tests.factories import make_rollout

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \x00\x1b &amp; \ud800"
ROW = {
    "reward_train": 0.5,
    "score_train": 0.55,
    "kl_per_token": 0.01,
    "kl_per_trajectory": 1.5,
    "entropy": 0.4,
    "grad_norm": 0.7,
    "clip_fraction": 0.02,
    "explained_variance": 0.3,
    "tool_calls": 6.0,
    "tool_calls_search": 4.0,
    "tool_calls_cat": 2.0,
    "output_tokens": 150.0,
    "success_rate": 0.4,
    "infra_failed_fraction": 0.0,
    "seconds_rollout": 10.0,
    "seconds_update": 5.0,
}


def a_run(path: Path, steps: int = 4) -> RunDirectory:
    run = RunDirectory.create(
        path, config_yaml="name: toy <b>\nseed: 3\nppo: {steps: 20}\n", manifest={"git_commit": "0123456789abcdef"}
    )
    for step in range(1, steps + 1):
        run.append_metrics({"step": step, **ROW})
    return run


def page_of(path: Path) -> str:
    return write_report(path).read_text("utf-8")


def summary(score: float = 1.0) -> dict:
    before = evaluate_rollouts([make_rollout(f"t{i}", 0, 0.0) for i in range(9)], pass_threshold=0.75)
    after = evaluate_rollouts([make_rollout(f"t{i}", 0, score, ("cat",)) for i in range(9)], pass_threshold=0.75)
    return {**evaluation_summary(baseline=before, best=after, final=after), "steps": 4, "seed": 3}


def test_the_page_is_complete_and_self_contained(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        run.append_metrics(
            {"step": 4, "reward_validation": 0.6, "reward_validation_low": 0.5, "reward_validation_high": 0.7}
        )
        run.write_summary(summary())
        run.write_rollouts("validation-0004", [make_rollout(f"t{i}", score=i / 4) for i in range(5)])
        page = page_of(tmp_path)
    assert "seed 3" in page
    assert "4 of 20 steps" in page
    assert "commit 0123456789" in page
    assert "Reward on validation rose from 0.000 to 1.000" in page
    assert page.count("<svg") == 11
    assert "tool calls" in page
    assert '<td class="best">9</td>' in page
    assert re.findall(r"(Lowest|Median|Highest) reward: ([\d.]+)", page) == [
        ("Lowest", "0"),
        ("Median", "0.5"),
        ("Highest", "1"),
    ]
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)=|url\(|@import""", page)
    assert "prefers-color-scheme: dark" in page


def test_every_chart_is_well_formed_and_hovers_show_the_values(tmp_path: Path) -> None:
    with a_run(tmp_path):
        page = page_of(tmp_path)
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    titles = [title.text for chart in charts for title in ElementTree.fromstring(chart).iter("title")]
    assert "step 2\ntotal: 6\ncat: 2\nsearch: 4" in titles


def test_model_text_is_escaped(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        run.append_metrics({"step": 9, 'tool_calls_"><script>': 1.0})
        run.write_rollouts("validation", [make_rollout(HOSTILE, score=0.5, answer=HOSTILE, output=HOSTILE)])
        page = page_of(tmp_path)
    assert "&lt;script&gt;alert(1)" in page
    assert "toy &lt;b&gt;" in page
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)


@pytest.mark.parametrize("files", [(), ("summary.json",), ("metrics.jsonl",), ("config.yaml", "manifest.json")])
def test_missing_parts_never_break_it(tmp_path: Path, files: tuple[str, ...]) -> None:
    with a_run(tmp_path) as run:
        run.write_summary(summary())
    for name in files:
        (tmp_path / name).unlink()
    assert "<h2>Curves</h2>" in page_of(tmp_path)


def test_an_empty_directory_gives_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "Not finished" in page
    assert "Not recorded in this run: Reward;" in page


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "config.yaml", "manifest.json"])
def test_a_damaged_file_is_named_on_the_page(tmp_path: Path, name: str) -> None:
    a_run(tmp_path).close()
    (tmp_path / name).write_text("{[\n{}\n")
    assert f"{name}" in page_of(tmp_path)


def test_a_stopped_run_says_so(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        run.write_summary({"steps": 4, "stopped_by": "kl_too_high"})
    assert "Stopped early by kl_too_high after 4 of 20 steps." in page_of(tmp_path)


def test_a_summary_without_intervals_still_gives_the_table(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        run.write_summary(
            {"baseline": {"reward": 0.5, "tool_calls": 6.0}, "best": {"reward": 0.7, "tool_calls": 3.0}, "steps": 4}
        )
    page = page_of(tmp_path)
    assert "Reward on validation went from 0.500 to 0.700 (+0.200), tool calls from 6.00 to 3.00 (-50.0 %)." in page


def test_an_unchanged_reward_is_called_that(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        run.write_summary(summary(score=0.0))
    assert "shows no clear change: from 0.000 to 0.000" in page_of(tmp_path)


@pytest.mark.parametrize(
    ("value", "shown"), [(1e9, "1G"), (-5e8, "-500M"), (1.25e12, "1,250G"), (12_000.0, "12k"), (1e20, "1e+20")]
)
def test_large_numbers_are_short_on_an_axis(value: float, shown: str) -> None:
    assert number(value) == shown


def test_values_that_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    rows = [{"step": 1, "entropy": "high"}, {"step": "x"}, {}, {"step": 2, "entropy": None}, {"step": 3, "entropy": 1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert page_of(tmp_path).count("<svg") == 1


def test_fewer_than_three_graded_rollouts_are_shown_as_they_are() -> None:
    traces = [{"id": str(i), "grade": {"score": score}} for i, score in enumerate((None, 1.0, 0.0))]
    assert [(label, trace["id"]) for label, trace in choose_samples(traces)] == [("Lowest", "2"), ("Highest", "1")]
    assert choose_samples(traces[:1]) == []
    assert len(choose_samples(traces[:2])) == 1


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.02, 0.031), (-3, 7), (5, 5), (0, 0), (1e-9, 3e-9), (0, 1e9), (-0.2, -0.1)]
)
def test_ticks_are_few_and_enclose_the_data(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 8
    assert len(set(map(number, found))) == len(found)


@pytest.mark.parametrize(
    "points", [[(0, 1.0)], [(3, 0.0), (4, 0.0)], [(i, math.sin(i)) for i in range(2000)], [(0, -1e12), (1, 1e12)]]
)
def test_any_finite_points_stay_inside_the_drawing(points: list[tuple[float, float]]) -> None:
    for chart in (line_chart("t", [Series("a", points)]), stacked_bars("t", [Series("a", points)])):
        svg = ElementTree.fromstring(re.findall(r"<svg.*</svg>", chart, re.DOTALL)[0])
        for mark in [*svg.iter("rect"), *svg.iter("circle")]:
            assert -20 <= float(mark.get("x") or mark.get("cx") or 0) <= 380
            assert 0 <= float(mark.get("y") or mark.get("cy") or 0) <= 220


def test_a_chart_without_points_is_no_chart() -> None:
    assert line_chart("t", [Series("a", [])]) == stacked_bars("t", []) == ""
