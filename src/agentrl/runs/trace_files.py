"""Files of traces: those of a run directory, and what `agentrl rollouts --out` writes."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from agentrl.errors import ConfigError
from agentrl.runs.files import ROLLOUTS

SUFFIX = ".jsonl.gz"
MAX_LINE = 1 << 27
"""Characters of one rollout: a small file may unpack to more than any memory."""
Record = TypeVar("Record")


def trace_files(source: Path, *, evaluations: bool = False) -> list[Path]:
    """The files of a run directory that were sampled for training, or the one file.

    Args:
        evaluations: the run's validation rollouts as well: what is learned from can no longer be measured with. Test
            rollouts never.

    Raises:
        ConfigError: there is nothing to read.
    """
    if source.is_file():
        return [source]
    kinds = ("train", "validation") if evaluations else ("train",)
    found = [path for kind in kinds for path in sorted((source / ROLLOUTS).glob(f"{kind}-*{SUFFIX}"))]
    if not found:
        what = f"no {ROLLOUTS}/{kinds[0]}-*{SUFFIX}" if source.is_dir() else "no such file or folder"
        raise ConfigError(f"{source}: {what}; give the directory of a run of `agentrl train`, or a file of rollouts")
    return found


def read_traces(path: Path, read: Callable[[dict[str, Any]], Record]) -> Iterator[Record]:
    """What `read`, such as `from_trace`, makes of every line that is not blank; the file may be packed (.gz).

    Raises:
        ConfigError: the file cannot be read, or a line is no rollout (file:line).
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number in count(1):
                if not (line := file.readline(MAX_LINE)):
                    return
                if len(line) == MAX_LINE:
                    raise ConfigError(f"{path}:{number}: found a line of more than {MAX_LINE >> 20} MB")
                if line.strip():
                    try:
                        record = read(json.loads(line))
                    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                        found = f"found no rollout ({type(error).__name__}: {error})"
                        raise ConfigError(f"{path}:{number}: {found}") from error
                    yield record
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
