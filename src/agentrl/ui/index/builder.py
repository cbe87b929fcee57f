"""Keeps an index up to date: new files into new segments, small segments into larger ones, what is gone out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from agentrl.runs.files import rollouts_path
from agentrl.ui.index.catalog import Catalog, Segment
from agentrl.ui.index.episodes import DamagedFile, read_episodes
from agentrl.ui.index.folder import IndexFolder
from agentrl.ui.index.places import FoundFile
from agentrl.ui.index.segments import FULL_PLACES, FULL_ROWS, SegmentWriter

SMALL_SEGMENTS = 8
"""So many of about one size are made into one."""
FULL_BYTES = 4 * FULL_PLACES
LARGE_FULLNESS = 0.5
"""Of what a full segment holds: one that has as much is left as it is."""
MERGED_FULLNESS = 2.0
"""Of what is made into one, at most."""
LIVE_FRACTION = 0.5
"""A segment of which less is still wanted is written anew."""


@dataclass
class Stop:
    """When to leave off: at a time, or when somebody says so. What is done by then is kept."""

    deadline: float = float("inf")
    """On the monotonic clock."""
    is_asked: Callable[[], bool] = field(default=lambda: False)

    def __bool__(self) -> bool:
        return self.is_asked() or time.monotonic() >= self.deadline


class Builder:
    """Writes an index; for the one process that may."""

    def __init__(self, folder: IndexFolder, runs: Mapping[str, Path], publish: Callable[[Catalog], None]) -> None:
        self._folder, self._runs = folder, runs
        self._publish = publish
        self._catalog = folder.read()

    def update(self, found: Iterable[FoundFile], stop: Stop) -> int:
        """Bring the index to the files that were found; returns how many were read for the first time.

        Raises:
            OSError: the index cannot be written.
        """
        there = dict.fromkeys(found)
        self._drop(there)
        known = self._catalog.known
        new = [file for file in there if file not in known]
        unread = iter(new)
        left = len(new)
        while left and not stop:
            left -= self._add(unread, stop)
        while not stop and (chosen := _to_merge(self._catalog.segments, there)):
            self._rewrite(chosen, there)
        self._folder.sweep(self._catalog)
        return len(new) - left

    def _drop(self, there: Mapping[FoundFile, None]) -> None:
        """Forget segments and problems of which no file is there any more."""
        gone = _gone(self._catalog, there)
        problems = {file: text for file, text in self._catalog.problems.items() if file in there}
        if gone or problems != self._catalog.problems:
            self._replace(gone, [], problems)

    def _add(self, files: Iterable[FoundFile], stop: Stop) -> int:
        """One segment of the next files, or of fewer where time is up; returns how many files were taken."""
        writer, problems, taken = SegmentWriter(), dict(self._catalog.problems), 0
        for file in files:
            taken += 1
            self._read(file, writer, problems)
            if writer.is_full or stop:
                break
        self._replace([], [writer] if writer.files else [], problems)
        return taken

    def _read(self, file: FoundFile, writer: SegmentWriter, problems: dict[FoundFile, str]) -> None:
        """A file that changes or goes while it is read is left for the next time."""
        path = rollouts_path(self._runs[file.run], file.name)
        try:
            episodes = list(read_episodes(path))
            facts = path.lstat()
            if (facts.st_size, facts.st_mtime_ns) == (file.size, file.mtime_ns):
                writer.add(file, episodes)
        except FileNotFoundError:
            return
        except (DamagedFile, OSError) as error:
            problems[file] = str(error) if isinstance(error, DamagedFile) else f"cannot be read: {error.strerror}"

    def _rewrite(self, segments: Sequence[Segment], there: Mapping[FoundFile, None]) -> None:
        """One segment in place of several, from the files themselves."""
        writer, problems = SegmentWriter(), dict(self._catalog.problems)
        for segment in segments:
            for file in segment.files:
                if file.found in there:
                    self._read(file.found, writer, problems)
        self._replace(segments, [writer] if writer.files else [], problems)

    def _replace(self, old: Sequence[Segment], new: Sequence[SegmentWriter], problems: Mapping[FoundFile, str]) -> None:
        number = 1 + max((segment.number for segment in self._catalog.segments), default=0)
        written = [writer.write(self._folder.new_segment(number), number) for writer in new]
        kept = tuple(segment for segment in self._catalog.segments if segment not in old)
        self._catalog = Catalog((*kept, *written), problems)
        self._folder.write(self._catalog)
        for segment in old:
            self._folder.retire(segment)
        self._publish(self._catalog)


def is_up_to_date(catalog: Catalog, found: Iterable[FoundFile]) -> bool:
    """Whether a Builder would find nothing to do; a few stale files in a segment may stay."""
    there = dict.fromkeys(found)
    is_known = there.keys() <= catalog.known and catalog.problems.keys() <= there.keys()
    return is_known and not _gone(catalog, there) and not _to_merge(catalog.segments, there)


def _gone(catalog: Catalog, there: Mapping[FoundFile, None]) -> list[Segment]:
    return [each for each in catalog.segments if not any(file.found in there for file in each.files)]


def _to_merge(segments: Iterable[Segment], there: Mapping[FoundFile, None]) -> list[Segment]:
    """Segments to be written anew as one: mostly stale, or many of one size; empty where all is well."""
    by_size: dict[int, list[Segment]] = defaultdict(list)
    for segment in segments:
        live = sum(file.rows for file in segment.files if file.found in there)
        if live < LIVE_FRACTION * segment.rows:
            return [segment]
        if _fullness(segment) < LARGE_FULLNESS:
            by_size[segment.rows.bit_length() // 3].append(segment)
    for same in by_size.values():
        if len(same) >= SMALL_SEGMENTS:
            together = list(accumulate(map(_fullness, same)))
            return same[: max(2, sum(fullness <= MERGED_FULLNESS for fullness in together[:SMALL_SEGMENTS]))]
    return []


def _fullness(segment: Segment) -> float:
    return max(segment.rows / FULL_ROWS, segment.size / FULL_BYTES)
