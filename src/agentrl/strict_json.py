"""JSON as it may come from anywhere: to the letter, or not at all; and its one spelling, which digests are taken of."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn


def strict_json(text: str) -> Any:
    """JSON to the letter of RFC 8259: no NaN, no infinity (1e999), no key twice, no bottomless nesting.

    Raises:
        ValueError: it is not.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def canonical_json(value: Any) -> bytes:
    """JSON in UTF-8 with sorted keys and no spaces: equal values have equal bytes.

    Raises:
        ValueError: a number is NaN or infinite, or a text holds half a character.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is out of range")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        counts = Counter(key for key, _ in pairs)  # a model may write a hundred thousand keys
        raise ValueError(f"key {next(key for key in counts if counts[key] > 1)!r:.80} appears twice")
    return unique
