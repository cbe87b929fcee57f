from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from agentrl.evaluation.gaming import gaming_section
from agentrl.evaluation.goodhart import (
    Measured,
    best_of_n_kl,
    best_of_n_peak,
    fit,
    goodhart_chart,
    goodhart_of,
    goodhart_svg,
    rl_peak,
)


@pytest.mark.parametrize(("n", "nats"), [(1, 0.0), (4, 0.636294), (16, 1.835089), (64, 3.174508)])
def test_the_kl_of_best_of_n_is_the_known_one(n: int, nats: float) -> None:
    assert best_of_n_kl(n) == pytest.approx(nats, abs=5e-7)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.4), (1.0, 0.1), (0.3, 0.9)])
def test_the_peaks_are_where_both_curves_are_greatest(a: float, b: float) -> None:
    sampled, trained = best_of_n_peak(a, b), rl_peak(a, b)
    assert sampled == pytest.approx((a / (2 * b), a * a / (4 * b)))
    assert trained == pytest.approx((math.exp(a / b - 1), b * math.exp(a / b - 1)))
    for d in (0.9, 1.1):
        assert d * sampled.sqrt_kl * (a - b * d * sampled.sqrt_kl) < sampled.score
        assert d * trained.sqrt_kl * (a - b * math.log(d * trained.sqrt_kl)) < trained.score


def curve(a: float, b: float, *distances: float, base: float = 0.2) -> list[Measured]:
    scores = [base + d * (a - b * math.log(d)) if d else base for d in (0.0, *distances)]
    return [
        Measured(step, d, score, score - 0.1, score + 0.1)
        for step, (d, score) in enumerate(zip((0.0, *distances), scores, strict=True))
    ]


def test_a_fit_finds_the_curve_that_its_points_lie_on() -> None:
    found = fit(curve(0.6, 0.4, 0.2, 0.5, 1.0, 1.5, 2.5))
    assert found == pytest.approx((0.2, 0.6, 0.4))
    assert found is not None
    assert found.at(0.0) == 0.2


def test_nothing_is_fitted_to_too_few_points_nor_to_a_score_that_only_rises() -> None:
    assert fit(curve(0.6, 0.4, 0.2, 0.5, 1.0, 1.5)) is None
    assert fit(curve(0.6, 0.4, 0.2, 0.5, 1.0, 1.5, 2.5)[1:]) is None
    assert fit(curve(0.6, -0.4, 0.2, 0.5, 1.0, 1.5, 2.5)) is None
    assert fit(curve(0.6, 0.4, 1.0, 1.0, 1.0, 1.0, 1.0)) is None


def rows() -> list[dict[str, Any]]:
    """Evaluations at every second of eight steps."""
    found: list[dict[str, Any]] = [{"step": 0, "reward_validation": 0.2, "holdout_score_validation": 0.2}]
    for step in range(1, 9):
        found.append({"step": step, "reward_train": 0.5})
        if step % 2 == 0:
            found[-1] |= {"reward_validation": 0.1 * step, "holdout_score_validation": 0.1 * step * (1 - 0.1 * step)}
            found[-1] |= {"holdout_coverage_validation": 1.0, "holdout_fall_validation": 0.123, "sqrt_kl": 0.1 * step}
            found[-1] |= {"holdout_fall_validation_stderr": 0.045, "holdout_gap_validation": 0.01 * step**2}
    return found


def test_an_evaluation_stands_at_its_distance_and_the_baseline_at_none() -> None:
    found = goodhart_of(rows())
    assert [point.step for point in found.holdouts] == [0, 2, 4, 6, 8]
    assert [point.sqrt_kl for point in found.holdouts] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert [point.score for point in found.rewards] == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.8])


def test_an_evaluation_whose_kl_nobody_measured_is_left_out() -> None:
    assert goodhart_of([{"step": 1, "reward_validation": 0.5, "holdout_score_validation": 0.5}]).holdouts == ()


def test_the_plot_marks_baseline_and_best_and_shows_intervals() -> None:
    drawing = ET.fromstring(goodhart_svg(goodhart_of(rows()), best_step=4))
    texts = ["".join(each.itertext()) for each in drawing.iter() if each.tag.endswith(("text", "title"))]
    assert {"baseline", "best", "sqrt(KL), sqrt(nats)", "hold-out score"} <= set(texts)
    assert "step 4, hold-out score 0.24 [0.24, 0.24]" in texts
    kinds = [each.get("class", "") for each in drawing.iter()]
    assert kinds.count("ring") == 2
    assert kinds.count("whisker s0") == kinds.count("whisker s1") == 5


def test_a_run_without_a_hold_out_has_no_plot_and_no_section() -> None:
    plain = [{k: v for k, v in row.items() if not k.startswith("holdout")} for row in rows()]
    assert goodhart_chart(goodhart_of(plain)) == ""
    assert gaming_section(plain, {}, {}) == ""


def test_the_section_has_a_line_an_evaluation_and_the_samples_of_a_stop_escaped() -> None:
    sample = {"rollout_id": "trace_1", "task_id": "t", "score": 1.0, "holdout": 0.0, "answer": "<script>1 2 3 4"}
    stop = {"rule": "gaming", "samples": [sample]}
    page = gaming_section(rows(), {"best_step": 4, "holdout": {"names": ["exact"]}}, stop)
    assert "+0.123 \u00b1 0.045" in page
    assert "4 (best)" in page
    assert "Hold-out graders: exact." in page
    assert "&lt;script&gt;1 2 3 4" in page
    assert "<script>" not in page
    assert len(re.findall("<tr>", page)) == 1 + 4 + 1 + 1
