"""A run's files beside its rollouts, read while it may write them: what is damaged is named and counts as empty."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import count, repeat
from pathlib import Path
from typing import Any

from agentrl.ui.index.places import open_plain

MAX_BYTES = 1 << 25
"""Of one of these files; metrics may be more."""
MAX_KEYS, MAX_DEPTH = 100_000, 50
"""Of a config: YAML's aliases make a small file a large one."""


def read_bytes(run: Path, name: str, problems: list[str], *, max_bytes: int | None = MAX_BYTES) -> bytes:
    """The file; nothing where there is none, or none that can be read, which is added to `problems`."""
    try:
        with open_plain(run / name) as file:
            if max_bytes is None or os.fstat(file.fileno()).st_size <= max_bytes:
                return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        problems.append(f"{name} cannot be read: {error.strerror or error}")
        return b""
    problems.append(f"{name} is larger than {max_bytes >> 20} MB and not shown")
    return b""


def read_object(run: Path, name: str, problems: list[str]) -> dict[str, Any]:
    """The JSON object in it, likewise."""
    return json_object(read_bytes(run, name, problems), name, problems)


def json_object(text: bytes, name: str, problems: list[str]) -> dict[str, Any]:
    """The object that a text is, likewise."""
    if not text:
        return {}
    try:
        found = _plain(json.loads(text.decode("utf-8", "replace")), MAX_DEPTH, repeat(1))
    except (ValueError, RecursionError) as error:
        problems.append(f"{name} is damaged: {error}")
        return {}
    if isinstance(found, dict):
        return found
    problems.append(f"{name} is no JSON object")
    return {}


def plain(value: Any) -> Any:
    """What YAML gave, with texts for keys, as JSON has it.

    Raises:
        ValueError: it is larger than any config.
    """
    return _plain(value, MAX_DEPTH, count(1))


def _plain(value: Any, depth: int, keys: Iterator[int]) -> Any:
    if not depth or next(keys) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS:,} keys, or {MAX_DEPTH} within each other")
    if isinstance(value, dict):
        return {str(key): _plain(each, depth - 1, keys) for key, each in value.items()}
    return [_plain(each, depth - 1, keys) for each in value] if isinstance(value, list) else value
