"""What somebody's YAML or JSON gave, as plain values of a size to reckon with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, repeat
from typing import Any

MAX_VALUES, MAX_DEPTH = 100_000, 50
"""Of a config: YAML's aliases make a small file one that no memory holds."""


def plain_yaml(value: Any) -> Any:
    """What YAML gave, with texts for keys, as JSON has it.

    Raises:
        ValueError: it is larger than any config.
    """
    return _plain(value, MAX_DEPTH, count(1))


def plain_json(value: Any) -> Any:
    """What JSON gave; its size is that of its text, so that its depth alone is bounded.

    Raises:
        ValueError: it is too deep to be gone through.
    """
    return _plain(value, MAX_DEPTH, repeat(1))


def _plain(value: Any, depth: int, numbers: Iterator[int]) -> Any:
    if not depth or next(numbers) > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values, or {MAX_DEPTH} within each other")
    if isinstance(value, dict):
        return {str(key): _plain(each, depth - 1, numbers) for key, each in value.items()}
    return [_plain(each, depth - 1, numbers) for each in value] if isinstance(value, list) else value
