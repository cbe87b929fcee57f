"""Numbers of gates as people read them: points of a rate, percent of a ratio, seconds, dollars, nats."""

from __future__ import annotations

UNITS = {
    "session_seconds": " s",
    "rollback_seconds": " s",
    "policy_kl_drift": " nats/token",
}
PERCENT = ("human_override_rate", "task_success", "tool_error_rate", "safety_violations")


def shown_value(metric: str, statistic: str, value: float | None) -> str:
    """The metric on one arm: 81.2 %, 12.4 s, $0.0031."""
    if value is None:
        return "-"
    if metric == "cost_per_success":
        return f"${value:.4g}"
    if statistic == "rate" or metric == "tool_error_rate":
        return f"{_rounded(100 * value)} %"
    return f"{_rounded(value)}{UNITS.get(metric, '')}"


def shown_change(metric: str, statistic: str, scale: str, value: float | None) -> str:
    """The candidate against the baseline: +1.2 pt, -8 %; or, of scale `value`, `shown_value`."""
    if value is None:
        return "-"
    if scale == "value":
        return shown_value(metric, statistic, value)
    if scale == "ratio":
        return f"{_signed(100 * (value - 1))} %"
    if statistic == "rate" or metric in PERCENT:
        return f"{_signed(100 * value)} pt"
    return f"{_signed(value)}{UNITS.get(metric, '')}"


def _rounded(value: float) -> str:
    """Three significant digits, in plain notation where that is short."""
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e9 else text


def _signed(value: float) -> str:
    text = _rounded(value)
    return text if text.startswith("-") or text == "0" else f"+{text}"
