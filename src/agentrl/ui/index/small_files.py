"""A run's files beside its rollouts, read while it may write them: what is damaged is named and counts as empty."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agentrl.runs.plain_values import plain_json
from agentrl.ui.index.places import open_plain

MAX_BYTES = 1 << 25
"""Of one of these files; metrics may be more."""


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
        found = plain_json(json.loads(text.decode("utf-8", "replace")))
    except (ValueError, RecursionError) as error:
        problems.append(f"{name} is damaged: {error}")
        return {}
    if isinstance(found, dict):
        return found
    problems.append(f"{name} is no JSON object")
    return {}
