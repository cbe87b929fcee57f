"""Writes a segment: a table of figures in Parquet, and the texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentrl.ui.index.catalog import IndexedFile, Segment
from agentrl.ui.index.database import write_parquet
from agentrl.ui.index.episodes import Episode
from agentrl.ui.index.folder import keep
from agentrl.ui.index.places import FoundFile
from agentrl.ui.index.text_files import TextWriter

ROWS = "rows.parquet"
FULL_ROWS = 1 << 16
FULL_PLACES = 1 << 22
"""Tokens: 17 MB on disk, and about 200 MB of memory while it is written."""
FULL_FILES = 1 << 14
NUMBER_BITS = 32
"""`id` of a row is its segment's number << NUMBER_BITS, plus its place in the segment."""

_INFRA_FAILED = "infra_failed"
_COLUMNS = {
    "line": np.int32, "rollout_id": object, "task_id": object, "sample_index": np.int32, "score": np.float64,
    "outcome": object, "stop_reason": object, "failure_class": object, "tool_calls": np.int32,
    "repeated_tools": np.int32, "output_tokens": np.int32, "seconds": np.float64, "cost_usd": np.float64,
    "tools": object, "question": object, "answer": object,
}  # fmt: skip


class SegmentWriter:
    """Takes file after file, then writes them as one segment."""

    def __init__(self) -> None:
        self.files: list[IndexedFile] = []
        self._values: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._texts = TextWriter()

    @property
    def rows(self) -> int:
        return len(self._values["line"])

    @property
    def is_full(self) -> bool:
        """It is large enough never to be merged."""
        return self.rows >= FULL_ROWS or self._texts.n_places >= FULL_PLACES or len(self.files) >= FULL_FILES

    def add(self, found: FoundFile, episodes: Sequence[Episode]) -> None:
        """The rollouts of a file, all of them."""
        values = self._values
        for line, episode in enumerate(episodes):
            values["line"].append(line)
            for name in _TAKEN:
                values[name].append(getattr(episode, name))
            values["tool_calls"].append(len(episode.tools))
            values["tools"].append(json.dumps(episode.tools))
            self._texts.add(episode.texts)
        failed = sum(episode.outcome == _INFRA_FAILED for episode in episodes)
        self.files.append(IndexedFile(found, len(episodes), failed))

    def write(self, folder: Path, number: int) -> Segment:
        """Everything into the folder, which is empty.

        Raises:
            OSError: it cannot be written.
        """
        counts = [file.rows for file in self.files]
        table = {
            "id": (number << NUMBER_BITS) + np.arange(self.rows),
            "file": (number << NUMBER_BITS) + np.repeat(np.arange(len(counts)), counts),
            **{name: np.array(self._values[name], kind) for name, kind in _COLUMNS.items()},
        }
        write_parquet(folder / ROWS, table)
        self._texts.write(folder)
        return Segment(number, folder.name, keep(folder), tuple(self.files))


_TAKEN = [name for name in _COLUMNS if name not in ("line", "tool_calls", "tools")]
