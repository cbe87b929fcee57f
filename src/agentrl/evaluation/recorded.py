"""Rollouts of a finished run, or of a file of traces, by the file that they stand in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from agentrl.errors import ConfigError
from agentrl.runs.files import ROLLOUTS
from agentrl.runs.traces import from_trace
from agentrl.types import Rollout

SUFFIX = ".jsonl.gz"


def read_recorded(source: Path, *, with_test: bool = False) -> dict[str, list[Rollout]]:
    """Name of a file, such as "validation-000005", and its rollouts; a rollout that stands in two is taken once.

    Args:
        source: a run directory, or a file as `agentrl rollouts --out` and run directories have them.
        with_test: the test split's files of a run are read as well: what was chosen by them measures no more.

    Raises:
        ConfigError: there is nothing to read, or a line is no rollout (file:line).
    """
    seen: set[str] = set()
    found: dict[str, list[Rollout]] = {}
    for path in _files(source, with_test):
        name = path.name.removesuffix(SUFFIX).removesuffix(".jsonl")
        found[name] = []
        for rollout in _read(path):
            if rollout.id not in seen:
                seen.add(rollout.id)
                found[name].append(rollout)
    return found


def _files(source: Path, with_test: bool) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ConfigError(f"{source}: no such file or folder; give a run directory, or a file of rollouts")
    found = sorted((source / ROLLOUTS).glob(f"*{SUFFIX}"))
    files = [path for path in found if with_test or not path.name.startswith("test")]
    if not files:
        what = "only rollouts of the test split; --test takes them" if found else f"no {ROLLOUTS}/*{SUFFIX}"
        raise ConfigError(f"{source}: has {what}; give the directory of a run, or a file of rollouts")
    return files


def _read(path: Path) -> Iterator[Rollout]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _rollout(line, f"{path}:{number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _rollout(line: str, place: str) -> Rollout:
    try:
        return from_trace(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{place}: found no rollout ({type(error).__name__}: {error})") from error
