"""Units of time, converted here and nowhere else: we record seconds, sessions tell milliseconds, spans nanoseconds."""

from __future__ import annotations


def milliseconds(seconds: float) -> float:
    """To a thousandth of one: what traces are rounded to."""
    return round(seconds * 1000, 3)


def seconds_of(milliseconds: float) -> float:
    """Of what a session tells."""
    return milliseconds / 1000


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


def seconds_between(start_ns: int, end_ns: int) -> float:
    """What histograms are given, so that a span and its metric tell the same."""
    return (end_ns - start_ns) / 1_000_000_000
