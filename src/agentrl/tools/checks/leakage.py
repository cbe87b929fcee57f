"""Does a tool's output hold the answer that it should help to find?

A reference of a few characters stands in many texts by chance. So a mention counts only where the same call for
another row does not bring it too, and where numbers are concerned it is their values that are compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from agentrl.reference_key import names_reference

NUMBER = re.compile(r"(?<![\w.,])[-+]?\$?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w]|[.,]\d)")
STRONG_DIGITS, STRONG_LETTERS = 3, 5


def references(item: Mapping[str, Any]) -> dict[str, str]:
    """The row's values that look like its answer, as text, by key."""
    found = {}
    for key, value in item.items():
        is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
        if names_reference(key) and is_scalar and str(value).strip():
            found[key] = str(value).strip()
    return found


def mentions(text: str, reference: str) -> bool:
    """Whether the text holds the reference as a number of the same value, or as whole words in any case."""
    value = _number(reference)
    if value is not None:
        numbers = (_number(match.group()) for match in NUMBER.finditer(text))
        return any(each is not None and math.isclose(each, value, rel_tol=1e-9) for each in numbers)
    words = r"\s+".join(map(re.escape, reference.split()))
    return re.search(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE) is not None


def is_strong(reference: str) -> bool:
    """Whether one mention already says something: few other texts hold it."""
    if _number(reference) is not None:
        return len(re.sub(r"\D", "", reference).strip("0")) >= STRONG_DIGITS
    return sum(map(str.isalnum, reference)) >= STRONG_LETTERS


def _number(text: str) -> float | None:
    try:
        value = float(text.strip().replace(",", "").replace("$", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
