"""What the files of a run directory are called, how they are read, and JSON that every reader accepts."""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping, Set
from enum import Enum
from pathlib import Path
from typing import Any

from agentrl.errors import CheckpointError

CONFIG = "config.yaml"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
STOP = "stop.json"
WARNINGS = "warnings.jsonl"
CHECKPOINTS = "checkpoints"
ROLLOUTS = "rollouts"
EVALUATIONS = "evaluations"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text of plain records, numpy scalars and paths; NaN and infinity, which JSON lacks, become null.

    Raises:
        TypeError: a value has no JSON form.
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Set):
        return sorted(_plain(item) for item in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, tensors
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r:.80}")


def finite(value: object) -> float | None:
    """The number, or None for anything that cannot be shown as one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floats
        return None


def read_json(run: Path, name: str) -> Any:
    """The parsed `run/name`, or None where there is no such file.

    Raises:
        CheckpointError: the file is not JSON.
    """
    path = run / name
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl in the order written; a last line that a killed process left torn is passed over.

    Raises:
        CheckpointError: any other line is not a JSON object.
    """
    path = run / METRICS
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # no newline came after it
                break
            raise CheckpointError(f"{path}:{number} is damaged: {error}") from error
        if not isinstance(row, dict):
            raise CheckpointError(f"{path}:{number} is not a JSON object: {line[:80]!r}")
        rows.append(row)
    return rows


def rollouts_path(run: Path, name: str) -> Path:
    if not name or name.startswith(".") or "/" in name or os.sep in name:
        raise ValueError(f"{name!r} cannot name a file of rollouts; use a word such as 'validation-0005'")
    return run / ROLLOUTS / f"{name}.jsonl.gz"


def read_rollouts(run: Path, name: str) -> list[dict[str, Any]]:
    """The traces that were written under this name, as `traces.to_trace` describes them.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    path = rollouts_path(run, name)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError as error:
        found = sorted(each.name.removesuffix(".jsonl.gz") for each in path.parent.glob("*.jsonl.gz"))
        raise CheckpointError(f"{path} does not exist; recorded here: {', '.join(found) or 'none'}") from error
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
