"""Where in an episode the text stands that a list was searched for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from agentrl.runs.files import rollouts_path
from agentrl.ui.index import EpisodeRow, RunsIndex
from agentrl.ui.index.episodes import DamagedFile, read_lines
from agentrl.ui.traces.loose import list_of, mapping_of, text_of
from agentrl.ui.traces.texts import Piece, excerpt

BUDGET_SECONDS = 0.4
"""For all episodes of a list; those that are left are shown without."""

Key = tuple[str, str, int]
"""Run, file and line of an episode."""


def excerpts(index: RunsIndex, rows: Sequence[EpisodeRow], needle: str) -> dict[Key, tuple[Piece, ...]]:
    """What stands around the text in each episode, as many as there is time for."""
    end = time.monotonic() + BUDGET_SECONDS
    found: dict[Key, tuple[Piece, ...]] = {}
    where = sorted((row.run, row.file, row.line) for row in rows)
    for (run, file), keys in groupby(where, key=lambda key: key[:2]):
        path = index.run_path(run)
        if path is None or time.monotonic() > end:
            continue
        lines = {line for _, _, line in keys}
        for line, trace in _traces(rollouts_path(path, file), lines, end):
            for text in texts_of(trace):
                if shown := excerpt(text, needle):
                    found[run, file, line] = shown
                    break
    return found


def _traces(path: Path, lines: set[int], end: float) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        for number, line in enumerate(read_lines(path)):
            if number > max(lines) or time.monotonic() > end:
                return
            if number in lines:
                yield number, json.loads(line)
    except (DamagedFile, OSError, ValueError, RecursionError):
        return


def texts_of(trace: dict[str, Any]) -> Iterator[str]:
    """What was asked, said, called and answered, in this order."""
    for message in map(mapping_of, list_of(trace.get("messages"))):
        if message.get("role") not in ("system", "developer"):
            yield text_of(message.get("content"))
    for turn in map(mapping_of, list_of(trace.get("turns"))):
        yield text_of(turn.get("text"))
        for call in map(mapping_of, list_of(turn.get("tool_calls"))):
            yield text_of(call.get("name"))
            yield text_of(call.get("arguments"))
        for result in map(mapping_of, list_of(turn.get("tool_results"))):
            yield text_of(result.get("output"))
    yield text_of(trace.get("answer"))
    yield text_of(trace.get("error"))
    yield text_of(mapping_of(trace.get("grade")).get("reason"))
