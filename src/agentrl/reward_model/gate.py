"""Whether what the hold-out shows of a reward model is enough to grade with it."""

from __future__ import annotations

from typing import Any

from agentrl.config import CalibrationGateConfig

ENOUGH_MATCHED = 50
"""Pairs of equal length, from which on their accuracy is taken; below, that of both directions counted alike."""
SPREAD = 1e-9
"""A standard deviation below this is that of a constant."""
Report = dict[str, Any]
"""Figures by name, as report.json has them."""


def failures(report: Report, gate: CalibrationGateConfig) -> list[str]:
    """What keeps the model from grading, in words; empty where nothing does. What was not measured does not pass."""
    found = []
    pairs, is_scores = report["comparisons"], report["objective"] == "scores"
    judged = (report["scores"] or {"n": 0}) if is_scores else pairs
    if judged["n"] < gate.min_comparisons:
        what = "episodes" if is_scores else "comparisons"
        found.append(f"{judged['n']} {what} in the hold-out; at least {gate.min_comparisons} (min_comparisons)")
    low = min(pairs["accuracy_low"], pairs["accuracy_low_by_task"]) if pairs["n"] else None
    if low is None or not low >= gate.min_accuracy:
        shown = "not measured" if low is None else f"{low:.3f}"
        found.append(f"accuracy of comparisons, lower end {shown}; at least {gate.min_accuracy:g} (min_accuracy)")
    scaled = judged.get("scaled", {})
    if not scaled.get("n") or not scaled["ece"] - scaled["ece_of_chance"] <= gate.max_ece:
        shown = f"{scaled['ece']:.3f}, by chance {scaled['ece_of_chance']:.3f}" if scaled.get("n") else "not measured"
        found.append(f"calibration error {shown}; at most {gate.max_ece:g} more than by chance (max_ece)")
    if not (_is_length_free(report, gate)):
        found.append(_length_failure(report, gate))
    if not report["reward"]["std"] > SPREAD:
        found.append("every episode gets the same reward")
    return found


def length_gap(pairs: Report) -> float | None:
    """Accuracy lost where length gives no hint; by both directions where pairs of equal length are few."""
    if not pairs["n"]:
        return None
    matched, balanced = pairs["length_matched_accuracy"], pairs["length_balanced_accuracy"]
    at = matched if pairs["length_matched"] >= ENOUGH_MATCHED else balanced
    return None if at is None else float(pairs["accuracy"] - at)


def _is_length_free(report: Report, gate: CalibrationGateConfig) -> bool:
    correlation, gap = report["length"]["correlation"], length_gap(report["comparisons"])
    return (correlation is not None and abs(correlation) <= gate.max_length_correlation) or (
        gap is not None and gap <= gate.max_length_gap
    )


def _length_failure(report: Report, gate: CalibrationGateConfig) -> str:
    correlation, gap = report["length"]["correlation"], length_gap(report["comparisons"])
    r = "not measured" if correlation is None else f"{correlation:.2f}"
    lost = "not measured" if gap is None else f"{gap:.3f}"
    return (
        f"reward goes with length: correlation {r}, at most {gate.max_length_correlation:g} (max_length_correlation), "
        f"and accuracy lost without its hint {lost}, at most {gate.max_length_gap:g} (max_length_gap)"
    )
