"""Durations of the release side: ISO 8601 of days and below, such as P7D, PT24H or P1DT12H."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from agentrl.config.section import BrokenRules, Problem

PARTS = re.compile(r"P(?=\d|T\d)(?:(\d{1,4})D)?(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8}(?:\.\d{1,6})?)S)?)?")
SECONDS = (86400.0, 3600.0, 60.0, 1.0)


def seconds_of(duration: str) -> float:
    """P1DT12H is 129600.0. Months and years have no length of their own and are not allowed.

    Raises:
        ValueError: it is no such duration.
    """
    found = PARTS.fullmatch(duration)
    if found is None:
        raise ValueError(f"found '{duration}'; allowed: an ISO 8601 duration such as P7D, PT24H, PT30M or PT10S")
    return sum(float(part) * seconds for part, seconds in zip(found.groups(), SECONDS, strict=True) if part)


def _checked(duration: str) -> str:
    try:
        seconds_of(duration)
    except ValueError as error:
        raise BrokenRules([Problem((), str(error))]) from None
    return duration


Duration = Annotated[str, AfterValidator(_checked)]
"""ISO 8601, for example P7D or PT24H."""
