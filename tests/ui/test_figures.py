"""The numbers of plots and their drawings: nothing is lost, nothing is heavy, what is left out is said."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.config import PPOConfig
from agentrl.ppo.guards import judge
from agentrl.ppo.rules import rules
from agentrl.ui.charts import Limit, draw
from agentrl.ui.csv_text import to_csv
from agentrl.ui.figures import MINUTES, Figure, Metrics, MetricsShelf, compared_figure, run_figure, whole_figure
from agentrl.ui.guard_states import guard_states, limits_of, rules_of, worst
from agentrl.ui.plots import OTHER, SECTIONS, Line, Plot, expanded, find_plot, plot_of, sections_of
from agentrl.ui.thinning import MAX_POINTS, SPANS, axis_end, thinned

DOCS = Path(__file__).parents[2] / "docs"
VALUES = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans())
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["step", "a", "b", "a_low", "a_high", "tool_calls_x"]), VALUES), max_size=12
)


def one(values: list[float], **options: Any) -> Figure:
    """A figure of one curve."""
    metrics = Metrics([{"step": n, "a": value} for n, value in enumerate(values, start=1)])
    return Figure("a", "A", (metrics.curve("a", "a"),), ("a",), **options)


def points(metrics: Metrics, key: str) -> dict[float, float]:
    curve = metrics.curve(key, key)
    return dict(zip(curve.x.tolist(), curve.y.tolist(), strict=True))


# --- metrics


@given(ROWS)
def test_metrics_hold_the_newest_finite_value_of_every_step(rows: list[dict[str, Any]]) -> None:
    told: dict[float, dict[str, Any]] = {}
    for row in rows:
        step = row.get("step")
        if isinstance(step, (int, float)) and not isinstance(step, bool) and math.isfinite(step):
            told.setdefault(step, {}).update(row)
    metrics = Metrics(rows)
    for key in ("a", "b"):
        finite = {
            step: row[key]
            for step, row in told.items()
            if isinstance(row.get(key), (int, float)) and not isinstance(row[key], bool) and math.isfinite(row[key])
        }
        assert points(metrics, key) == finite
        assert list(points(metrics, key)) == sorted(finite)


@given(ROWS, st.integers(0, 12))
def test_rows_that_come_later_are_as_good_as_rows_that_were_there(rows: list[dict[str, Any]], cut: int) -> None:
    shelf = MetricsShelf()
    shelf.get("run", rows[:cut], None)
    grown, anew = shelf.get("run", rows, None), Metrics(rows)
    assert grown.keys == anew.keys
    assert [points(grown, key) for key in anew.keys] == [points(anew, key) for key in anew.keys]


def test_a_run_that_went_back_is_read_anew() -> None:
    shelf = MetricsShelf()
    shelf.get("run", [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}], {"a": 0.0})
    again = shelf.get("run", [{"step": 1, "a": 5.0}], {"a": 0.0})
    assert points(again, "a") == {0: 0.0, 1: 5.0}


def test_time_is_that_of_the_run_so_far_and_overlap_counts_once() -> None:
    times = {"seconds_rollout": 60.0, "seconds_update": 60.0, "seconds_overlapped": 30.0}
    metrics = Metrics([{"step": n, "a": n, **times} for n in (1, 2)])
    assert metrics.curve("a", "a", MINUTES).x.tolist() == [1.5, 3.0]


# --- plots


def test_plots_name_keys_that_are_documented() -> None:
    pages = "".join((DOCS / name).read_text() for name in ("metrics.md", "stages.md"))
    documented = set(re.findall(r"`([a-z_0-9A-Z]+)`", pages))
    families = {re.sub(r"[A-Z]{2,}$", "", key) for key in documented if re.search(r"[A-Z]{2,}$", key)}
    for plot in (plot for section in SECTIONS for plot in section.plots):
        for line in plot.lines:
            known = families if line.key.endswith("*") else documented
            key = line.key.removesuffix("*")
            assert key in known or key.removeprefix("validation_") in known, line.key


def test_every_key_is_in_one_plot_and_in_one_only() -> None:
    keys = [
        "reward_validation", "reward_validation_low", "reward_validation_high", "infra_failed_fraction",
        "infra_failed_tool", "tool_calls", "tool_calls_search", "tool_calls_search_low", "holdout_score_of_x",
        "unheard_of",
    ]  # fmt: skip
    shown = [line.key for section in sections_of(keys) for plot in section.plots for line in expanded(plot, keys)]
    assert sorted(shown) == sorted(key for key in keys if not key.startswith("reward_validation_"))
    assert [section.title for section in sections_of(keys)][-1] == OTHER
    assert find_plot("key:unheard_of", keys) is not None


def test_a_name_in_the_list_of_plots_means_one_plot() -> None:
    names = [plot.name for section in SECTIONS for plot in section.plots]
    assert len(set(names)) == len(names)


def test_a_key_alone_has_the_title_of_its_plot() -> None:
    assert plot_of("grad_norm").title == "Gradient norm before clipping"
    assert plot_of("reward_train").title == "Reward: train"
    assert plot_of("tool_calls_cat").title == "Tool calls per episode: cat"
    assert plot_of("whatever").title == "whatever"


# --- drawings


def test_a_long_curve_keeps_its_means_and_its_extremes() -> None:
    rows = [{"step": n, "a": math.sin(n / 500), "a_low": -1.0, "a_high": 1.0} for n in range(20_000)]
    rows[12_345]["a"], rows[777]["a"] = 9.0, -9.0
    thin = thinned(Metrics(rows).curve("a", "a"))
    assert len(thin.x) == len(thin.band[0]) == SPANS
    assert (thin.low.min(), thin.high.max()) == (-9.0, 9.0)
    assert (np.diff(thin.x) > 0).all()
    assert float(np.mean(thin.y)) == pytest.approx(np.mean([row["a"] for row in rows]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=1500))
def test_every_value_lies_within_what_is_drawn_of_its_span(values: list[float]) -> None:
    thin = thinned(Metrics([{"step": n, "a": value} for n, value in enumerate(values)]).curve("a", "a"))
    assert len(thin.x) <= MAX_POINTS
    assert (thin.low.min(), thin.high.max()) == (min(values), max(values))
    assert ((thin.low <= thin.y + 1e-6) & (thin.y <= thin.high + 1e-6)).all()


def test_twenty_thousand_steps_are_a_light_drawing() -> None:
    drawing = draw(one([math.sin(n / 99) for n in range(20_000)]))
    assert drawing is not None
    assert len(drawing.svg) < 15_000
    assert drawing.notes == ("20,000 values: the mean of each of 200 spans, between its lowest and its highest.",)


def test_one_spike_does_not_flatten_a_curve() -> None:
    drawing = draw(one([1.0 + n / 10 for n in range(20)] + [5000.0]))
    assert drawing is not None
    assert drawing.notes == ("1 value lies above the axis (\u25b2), the highest 5,000 at step 21.",)
    assert axis_end(np.array([1.0] * 9 + [2.0])) == 2.0  # where all are the same, any change matters
    assert axis_end(np.linspace(0, 1, 50)) == 1.0


@pytest.mark.parametrize("values", [[0.0], [1.0], [1e-14, 2e-14], [-1e-14], [1e300, -1e300], [5.0, 5.0], [1e-9, 1.0]])
def test_any_numbers_can_be_drawn(values: list[float]) -> None:
    for is_stack in (False, True):
        drawing = draw(one(values, is_stack=is_stack), [Limit(0.5, is_stop=True)])
        assert drawing is not None
        assert "nan" not in drawing.svg
        assert "inf" not in drawing.svg


def test_curves_differ_in_colour_dashes_and_marks() -> None:
    runs = {str(n): Metrics([{"step": s, "a": n + s} for s in (1, 2)]) for n in range(12)}
    drawing = draw(compared_figure("a", runs))
    assert drawing is not None
    looks = re.findall(r'class="curve (s\d+) (d\d)"', drawing.svg)
    assert len({colour for colour, _ in looks}) == 12
    assert len({dash for _, dash in looks}) == 5


def test_a_run_without_a_metric_leaves_the_others_their_colours() -> None:
    runs = {"x": Metrics(), "y": Metrics([{"step": 1, "a": 1.0}])}
    drawing = draw(compared_figure("a", runs))
    assert drawing is not None
    assert 'class="curve s1 d1" data-label="y"' in drawing.svg
    assert [label for _, label in drawing.keys] == ["y"]


def test_phases_are_stacked_and_averaged_over_steps() -> None:
    metrics = Metrics([{"step": n, "seconds_rollout": 2.0, "seconds_update": 1.0} for n in range(1, 251)])
    plot = find_plot("time", metrics.keys)
    assert plot is not None
    drawing = draw(run_figure(plot, metrics))
    assert drawing is not None
    assert drawing.notes == ("Each bar is the mean of 3 steps.",)
    assert drawing.svg.count('class="bar"') == 2 * 84


# --- CSV


def test_a_csv_reads_back_as_the_same_numbers() -> None:
    values = [0.1, 1 / 3, -2.5e-9, 1e22, 7.0]
    lines = list(csv.reader(io.StringIO(to_csv(one(values)))))
    assert lines[0] == ["step", "a"]
    assert [float(cell) for _, cell in lines[1:]] == values


def test_the_whole_csv_has_every_number_once() -> None:
    rows = [{"step": 1, "a": 1, "a_low": 0, "a_high": 2, "b_low": 3, "c": 4, "c_low": 5}]
    heads, line = csv.reader(io.StringIO(to_csv(whole_figure(Metrics(rows)))))
    assert dict(zip(heads, map(float, line), strict=True)) == rows[0]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '"quoted", name', "plain"])
def test_no_cell_of_a_csv_is_a_formula(name: str) -> None:
    runs = {name: Metrics([{"step": 1, "a": 1.0}])}
    heads = next(csv.reader(io.StringIO(to_csv(compared_figure("a", runs)), newline="")))
    assert heads[1] == (name if name[0] in '"p' else f"'{name}")


# --- guards


def history(steps: int, **more: float) -> list[dict[str, float]]:
    return [
        {"step": n, "kl_per_token": 0.01 * n, "entropy": 1.0 / n, "grad_norm": 1.0, "loss": 0.1, **more}
        for n in range(1, steps + 1)
    ]


@pytest.mark.parametrize("steps", [1, 4, 6, 25, 700])
def test_the_states_are_those_that_the_run_itself_would_find(steps: int) -> None:
    config = PPOConfig(steps=1000)
    rows = history(steps, reward_validation=0.5)
    found = {finding.rule.name: finding for finding in judge(rows, rules(config))}
    for state in guard_states(rules(config), rows, ""):
        finding = found.get(state.rule)
        expected = ("ok", "silent") if finding is None else (("over",) if finding.is_stop else ("warn",))
        assert state.state in expected, state


def test_the_rule_that_stopped_a_run_comes_first() -> None:
    found = rules(PPOConfig(steps=9))
    states = guard_states(found, history(3), "entropy_collapse")
    assert (states[0].rule, states[0].state) == ("entropy_collapse", "stopped")
    assert worst(states) == ("stopped", "stopped by entropy_collapse")
    assert worst(guard_states(found, [{"step": 1, "grad_norm": 1.0}], "")) == ("ok", "all well")


def test_limits_are_told_in_words_and_as_lines() -> None:
    found = rules_of({"ppo": PPOConfig(steps=9).model_dump(mode="json")})
    states = {state.rule: state for state in guard_states(found, history(3), "")}
    assert (states["kl"].warns, states["kl"].stops) == ("above 0.05", "above 0.2")
    assert states["entropy_collapse"].stops == "below 0.2, 5 times in a row"
    assert states["grad_norm_spike"].stops == "above 20, 2 times within 10"
    assert limits_of(found, "kl") == [Limit(0.05, is_stop=False), Limit(0.2, is_stop=True)]


@pytest.mark.parametrize("config", [{}, {"ppo": None}, {"ppo": {"unheard": 1}}, {"ppo": {}, "grading": 3}])
def test_a_config_of_another_version_has_no_rules(config: dict[str, Any]) -> None:
    assert guard_states(rules_of(config), history(2), "") == []


def test_a_drawing_says_what_it_shows() -> None:
    plot = Plot("x", "Title", (Line("first", "a"), Line("second", "b")))
    drawing = draw(run_figure(plot, Metrics([{"step": 1, "a": 1.0, "b": 2}, {"step": 3, "a": 2.0}])))
    assert drawing is not None
    assert 'aria-label="Title by step. first: 1 at step 1 to 2 at step 3; second: 2 at step 1."' in drawing.svg
