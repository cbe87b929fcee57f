"""What the index holds: which files of rollouts are in which segment, and which could not be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate

from agentrl.ui.index.places import FoundFile


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
        segments = tuple(
            Segment(
                **{
                    **segment,
                    "files": tuple(
                        IndexedFile(FoundFile(**file["found"]), file["rows"], file["infra_failed"])
                        for file in segment["files"]
                    ),
                }
            )
            for segment in record["segments"]
        )
        return cls(segments, {FoundFile(**found): text for found, text in record["problems"]})
