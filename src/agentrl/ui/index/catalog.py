"""What the index holds: which files of rollouts are in which segment, and which could not be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeVar

from agentrl.ui.index.places import FoundFile

FOLDER = re.compile(r"\d{6,}-[0-9a-f]{8}", re.ASCII)
"""Names of segments' folders."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file whose rollouts are in a segment."""

    found: FoundFile
    """As it was when it was read."""
    rows: int
    infra_failed: int


@dataclass(frozen=True)
class Segment:
    """A folder of the index: the rollouts of some files, written once and never changed."""

    number: int
    """Unique in its catalog."""
    folder: str
    """Its name; no other segment ever has it."""
    size: int
    """Bytes of its files: one that has another size is not whole."""
    files: tuple[IndexedFile, ...]
    """In the order of their rows."""

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def starts(self) -> Iterator[tuple[int, IndexedFile]]:
        """Every file with the number of its first row."""
        yield from zip(accumulate((file.rows for file in self.files), initial=0), self.files, strict=False)


@dataclass(frozen=True)
class Catalog:
    """All of it."""

    segments: tuple[Segment, ...] = ()
    problems: Mapping[FoundFile, str] = field(default_factory=dict)
    """Files that cannot be read as they are now, and why."""

    @cached_property
    def known(self) -> frozenset[FoundFile]:
        """Files that need not be read again."""
        return frozenset(file.found for segment in self.segments for file in segment.files) | self.problems.keys()

    def to_json(self) -> str:
        """`from_json` reads it back."""
        problems = [[asdict(found), text] for found, text in self.problems.items()]
        return json.dumps({"segments": [asdict(segment) for segment in self.segments], "problems": problems})

    @classmethod
    def from_json(cls, text: str) -> Catalog:
        """The inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: it is no catalog.
        """
        record = json.loads(text)
        segments = tuple(map(_segment, record["segments"]))
        return cls(segments, {_found(found): _is(str, text) for found, text in record["problems"]})


def _segment(record: Any) -> Segment:
    folder = _is(str, record["folder"])
    if not FOLDER.fullmatch(folder):  # never a path to elsewhere
        raise ValueError(f"expected the name of a segment, found {folder!r:.80}")
    files = tuple(
        IndexedFile(_found(file["found"]), _is(int, file["rows"]), _is(int, file["infra_failed"]))
        for file in record["files"]
    )
    return Segment(_is(int, record["number"]), folder, _is(int, record["size"]), files)


def _found(record: Any) -> FoundFile:
    name, size, mtime_ns = _is(str, record["name"]), _is(int, record["size"]), _is(int, record["mtime_ns"])
    return FoundFile(_is(str, record["run"]), name, size, mtime_ns)


def _is(kind: type[Value], value: Any) -> Value:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {value!r:.80}")
    return value
