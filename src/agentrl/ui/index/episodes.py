"""What the index keeps of a rollout: the figures of its row, and the texts that a search looks into."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from agentrl.ui.index.places import open_plain

BEGINNING = 200
"""Characters of question and answer that a list shows."""

MAX_LINE, MAX_FILE = 1 << 27, 1 << 31
"""Bytes of one rollout and of all, unpacked: a file of a few kB may hold more than any memory."""

_CHUNK = 1 << 20
_NUMBERS = re.compile(
    rb'"(?:prompt_ids|token_ids|engine_logprobs|observation_ids)":\s*\[[-+0-9.,eE nul]*\]'
)  # most of a line's bytes; within a JSON string the quotes would be escaped, so no text is ever touched
_NO_NUMBERS = b'"numbers":[]'


class DamagedFile(Exception):
    """A file of rollouts that cannot be read to its end, or holds something else; says what and where."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One rollout as the index knows it."""

    rollout_id: str
    task_id: str
    sample_index: int
    score: float | None
    outcome: str
    stop_reason: str
    failure_class: str
    tools: tuple[str, ...]
    """In order of the calls."""
    output_tokens: int
    seconds: float
    cost_usd: float
    question: str
    """The last message of the user."""
    answer: str
    texts: tuple[str, ...]
    """What `EpisodeQuery.contains` is looked for in, each by itself and none part of its neighbour."""

    @property
    def repeated_tools(self) -> int:
        """Calls of the tool that was called just before."""
        return sum(before == after for before, after in pairwise(self.tools))


def read_episodes(path: Path) -> Iterator[Episode]:
    """The rollouts of a file, in its order; token ids and log-probabilities are not even parsed.

    Raises:
        DamagedFile: it ends too early, or a line is no rollout.
        OSError: it cannot be opened.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield episode_of(json.loads(_NUMBERS.sub(_NO_NUMBERS, line)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DamagedFile(f"line {number} is no rollout ({type(error).__name__}: {error})") from error


def read_trace(path: Path, line: int) -> dict[str, Any]:
    """The whole record of one line, from 0.

    Raises:
        DamagedFile: the file ends before it, or it is no JSON object.
        OSError: it cannot be opened.
    """
    for number, text in enumerate(read_lines(path)):
        if number == line:
            try:
                trace = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise DamagedFile(f"line {line + 1} is no JSON ({error})") from error
            if isinstance(trace, dict):
                return trace
            break
    raise DamagedFile(f"line {line + 1} is no rollout, or is missing")


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines of a packed file, without holding more of it than one line and a chunk.

    Raises:
        DamagedFile: it is not gzip, or is cut off.
        OSError: it cannot be opened.
    """
    with open_plain(path) as raw, gzip.GzipFile(fileobj=raw) as file:
        rest, unpacked = bytearray(), 0
        try:
            while chunk := file.read(_CHUNK):
                if (unpacked := unpacked + len(chunk)) > MAX_FILE:
                    raise DamagedFile(f"unpacks to more than {MAX_FILE >> 20:,} MB")
                first, *others = chunk.split(b"\n")
                rest += first
                if len(rest) > MAX_LINE:
                    raise DamagedFile(f"has a line of more than {MAX_LINE >> 20} MB")
                if others:
                    yield bytes(rest)
                    yield from others[:-1]
                    rest = bytearray(others[-1])
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedFile(f"is cut off or no gzip file ({error})") from error
    if rest:
        yield bytes(rest)


def episode_of(trace: Mapping[str, Any]) -> Episode:
    """What the index keeps of a record that `runs.traces.to_trace` wrote.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is no such record.
    """
    calls = [call for turn in trace["turns"] for call in turn["tool_calls"]]
    grade = trace["grade"]
    messages = [(message.get("role"), _contents(message.get("content"))) for message in trace["messages"]]
    asked = [texts for role, texts in messages if role == "user"]
    answer = _text(trace["answer"])
    return Episode(
        rollout_id=_text(trace["id"]),
        task_id=_text(trace["task_id"]),
        sample_index=_whole(trace["sample_index"]),
        score=_score(grade["score"]),
        outcome=_text(trace["outcome"]),
        stop_reason=_text(trace["stop_reason"]),
        failure_class=_text(trace.get("failure_class") or ""),
        tools=tuple(_text(call["name"]) for call in calls),
        output_tokens=_whole(trace["output_tokens"]),
        seconds=float(trace["seconds"]),
        cost_usd=float(trace.get("cost_usd", 0.0)),
        question=" ".join(asked[-1])[:BEGINNING] if asked else "",
        answer=answer[:BEGINNING],
        texts=tuple(_searched(trace, messages, answer)),
    )


def _searched(trace: Mapping[str, Any], messages: list[tuple[Any, list[str]]], answer: str) -> Iterator[str]:
    """Every text but the system prompt; what stands word for word in its turn's text is not given twice."""
    for role, texts in messages:
        if role not in ("system", "developer"):
            yield from texts
    last = ""
    for turn in trace["turns"]:
        last = _text(turn["text"])
        yield last
        for call in turn["tool_calls"]:
            yield from (text for text in (_text(call["name"]), _text(call["arguments"])) if text not in last)
        yield from (_text(result["output"]) for result in turn["tool_results"])
    if answer not in last:
        yield answer
    yield from (_text(text) for text in (trace.get("error"), trace["grade"].get("reason")) if text)


def writable(text: str) -> str:
    """The text as UTF-8 can write it; a lone surrogate from a decoder becomes `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _contents(content: Any) -> list[str]:
    """The texts of a message: its content, or the text parts of it."""
    if isinstance(content, list):
        return [_text(part["text"]) for part in content if "text" in part]
    return [] if content is None else [_text(content)]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r:.80}")
    return value if value.isascii() else writable(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise ValueError(f"expected a whole number, found {value!r:.80}")
    return value


def _score(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
