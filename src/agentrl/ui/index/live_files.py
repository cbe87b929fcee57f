"""The files of rollouts that are both in the index and on disk, and what their names say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agentrl.ui.index.catalog import Segment
from agentrl.ui.index.places import FoundFile
from agentrl.ui.index.segments import NUMBER_BITS

SPLITS = ("train", "validation", "test")
EVALUATED = SPLITS[1:]

Group = tuple[str, str]
"""A run and a split."""


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file whose rollouts are shown."""

    found: FoundFile
    segment: int
    """Place of its segment among those that are shown."""
    id: int
    """As the rows of the segment have it."""
    shift: int
    """Position of a row less its `id`."""
    position: int
    """Of its first row, among all rows that are shown."""
    rows: int
    infra_failed: int
    newness: int
    """0 is the newest file."""

    @property
    def split(self) -> str:
        """train, validation or test; the batch that an outage withheld was one for training."""
        split = self.found.name.partition("-")[0]
        return split if split in SPLITS else ("train" if split == "withheld" else "")

    @property
    def which(self) -> str:
        """What stands behind the split: baseline, final, best, or digits."""
        return self.found.name.partition("-")[2]

    @property
    def group(self) -> Group:
        """Within it evaluations are of the same items."""
        return self.found.run, self.split


def live_files(segments: Iterable[Segment], there: set[FoundFile]) -> list[LiveFile]:
    """Those of the segments that are still there; the segments' rows have positions one after the other."""
    named = [file.found for segment in segments for file in segment.files if file.found in there]
    newest_first = sorted(named, key=lambda found: (-found.mtime_ns, found.run, found.name))
    newness = {found: place for place, found in enumerate(newest_first)}
    live, base = [], 0
    for place, segment in enumerate(segments):
        first_id = segment.number << NUMBER_BITS
        for index, (start, file) in enumerate(segment.starts()):
            if file.found in there:
                live.append(
                    LiveFile(
                        found=file.found,
                        segment=place,
                        id=first_id + index,
                        shift=base - first_id,
                        position=base + start,
                        rows=file.rows,
                        infra_failed=file.infra_failed,
                        newness=newness[file.found],
                    )
                )
        base += segment.rows
    return live


def first_and_last(files: Iterable[LiveFile]) -> dict[Group, tuple[LiveFile, LiveFile]]:
    """Of every group that has them: the baseline's evaluation and the last one.

    The last one is that of the best policy, else of the final one, else the newest under way.
    """
    groups: dict[Group, dict[str, LiveFile]] = {}
    for file in files:
        if file.split in EVALUATED and file.which:
            groups.setdefault(file.group, {})[file.which] = file
    pairs = {}
    for group, found in groups.items():
        steps = sorted((which for which in found if which.isdigit()), key=int, reverse=True)
        last = next((which for which in ("best", "final", *steps) if which in found), None)
        if "baseline" in found and last:
            pairs[group] = found["baseline"], found[last]
    return pairs
