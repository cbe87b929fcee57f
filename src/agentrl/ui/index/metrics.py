"""metrics.jsonl of a run that may be writing it: every look parses what is new."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.runs.files import METRICS
from agentrl.ui.index.places import open_plain

_OVERLAP = 64
"""Bytes before the end that are compared, to see that the file only grew."""


@dataclass
class _Seen:
    inode: int = 0
    mtime_ns: int = 0
    size: int = 0
    parsed: int = 0
    """Bytes that `rows` hold; what comes after is a line that is still being written."""
    tail: bytes = b""
    rows: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""


class MetricsTail:
    """Rows of metrics.jsonl files by path; safe to ask from several threads."""

    def __init__(self) -> None:
        self._seen: dict[Path, _Seen] = {}
        self._lock = threading.Lock()

    def rows(self, run: Path) -> list[dict[str, Any]]:
        """All whole lines so far, in order; the list is the caller's, its rows are shared and not to be changed."""
        with self._lock:
            return list(self._look(run).rows)

    def problem(self, run: Path) -> str:
        """What is wrong with the file, in words; empty where nothing is."""
        with self._lock:
            return self._look(run).problem

    def forget(self, runs: set[Path]) -> None:
        """Keep what is known of these runs only."""
        with self._lock:
            self._seen = {run: seen for run, seen in self._seen.items() if run in runs}

    def _look(self, run: Path) -> _Seen:
        seen = self._seen.setdefault(run, _Seen())
        try:
            with open_plain(run / METRICS) as file:
                facts = os.fstat(file.fileno())
                if (facts.st_ino, facts.st_mtime_ns, facts.st_size) == (seen.inode, seen.mtime_ns, seen.size):
                    return seen
                file.seek(max(0, seen.parsed - _OVERLAP))
                is_grown = seen.inode == facts.st_ino and file.read(len(seen.tail)) == seen.tail
                if not is_grown:  # a resumed run wrote the file anew
                    seen = self._seen[run] = _Seen()
                    file.seek(0)
                new = file.read()
        except FileNotFoundError:
            self._seen[run] = _Seen()
            return self._seen[run]
        except OSError as error:
            self._seen[run] = _Seen(problem=f"{METRICS} cannot be read: {error.strerror or error}")
            return self._seen[run]
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.split(b"\n"):
            row = _row(line)
            if row is not None:
                seen.rows.append(row)
            elif line.strip():
                seen.problem = f"{METRICS} is damaged: {line[:60]!r} is no JSON object"
        seen.inode, seen.mtime_ns, seen.size = facts.st_ino, facts.st_mtime_ns, facts.st_size
        seen.parsed += len(whole)
        seen.tail = (seen.tail + whole)[-_OVERLAP:]
        return seen


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
