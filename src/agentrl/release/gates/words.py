"""Numbers of gates as people read them: points of a rate, percent of a ratio, seconds, dollars, nats."""

from __future__ import annotations

UNITS = {
    "session_seconds": " s",
    "rollback_seconds": " s",
    "policy_kl_drift": " nats/token",
}
PERCENT = ("tool_error_rate",)
"""Shares, though their statistic is no rate."""


def shown_value(metric: str, statistic: str, value: float | None) -> str:
    """The metric on one arm: 81.2 %, 12.4 s, $0.0031."""
    return shown_change(metric, statistic, "value", value)


def shown_change(metric: str, statistic: str, scale: str, value: float | None) -> str:
    """The candidate against the baseline: +1.2 pt, -8 %; or, of scale `value`, `shown_value`."""
    if value is None:
        return "-"
    number, unit = _parts(metric, statistic, scale, value)
    return f"{number}{unit}"


def shown_interval(metric: str, statistic: str, scale: str, lower: float | None, upper: float | None) -> str:
    """[-1.2, +3.4] pt."""
    if lower is None or upper is None:
        return "-"
    (low, unit), (high, _) = (_parts(metric, statistic, scale, each) for each in (lower, upper))
    return f"[{low}, {high}]{unit}"


def _parts(metric: str, statistic: str, scale: str, value: float) -> tuple[str, str]:
    """Number and unit."""
    is_share = statistic == "rate" or metric in PERCENT
    if scale == "ratio":
        return _signed(100 * (value - 1)), " %"
    if scale == "difference":
        return (_signed(100 * value), " pt") if is_share else (_signed(value), UNITS.get(metric, ""))
    if metric == "cost_per_success":
        return f"${value:.4g}", ""
    return (_rounded(100 * value), " %") if is_share else (_rounded(value), UNITS.get(metric, ""))


def _rounded(value: float) -> str:
    """Three significant digits, in plain notation where that is short."""
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e9 else text


def _signed(value: float) -> str:
    text = _rounded(value)
    return text if text.startswith("-") or text == "0" else f"+{text}"
