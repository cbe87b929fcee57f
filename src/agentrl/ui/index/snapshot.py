"""The index as it is at one moment, and the questions that are put to it. Never changed: the next moment has its own.

A row's position is its place among all rows of the snapshot. A question is answered by the positions that match, in
order; the figures and words of rows are fetched for a page only.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agentrl.runs.files import ROLLOUTS
from agentrl.runs.trace_files import SUFFIX
from agentrl.ui.index.catalog import Catalog
from agentrl.ui.index.database import connect
from agentrl.ui.index.episodes import writable
from agentrl.ui.index.folder import IndexFolder
from agentrl.ui.index.places import FoundFile
from agentrl.ui.index.records import EpisodeQuery, EpisodeRow, Order
from agentrl.ui.index.run_rows import Counts
from agentrl.ui.index.segments import NUMBER_BITS, ROWS
from agentrl.ui.index.sql import CHANGES, FILES, ORDERS, PAGE, conditions
from agentrl.ui.index.text_files import Array, TextFiles
from agentrl.ui.index.text_search import rows_with

KEPT_ORDERS = 4
"""Questions whose positions are kept for the next page of them, 4 bytes a row."""
SPLITS = ("train", "validation", "test")
EVALUATED = SPLITS[1:]


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file of rollouts that is in the index and on disk."""

    found: FoundFile
    position: int
    """Of its first row."""
    rows: int
    infra_failed: int


class Snapshot:
    """Asked from several threads at once."""

    def __init__(self, folder: IndexFolder, catalog: Catalog, found: Iterable[FoundFile]) -> None:
        self.catalog = catalog
        there = set(found)
        self.problems = {file: text for file, text in catalog.problems.items() if file in there}
        live = [each for each in catalog.segments if any(file.found in there for file in each.files)]
        self._segments = [segment for segment in live if segment.rows]
        self._bases = np.cumsum([0, *(segment.rows for segment in self._segments)])
        """[segments + 1] position of each segment's first row."""
        self._paths = [folder.segment_path(segment) for segment in self._segments]
        self._texts = [TextFiles(path) for path in self._paths]
        self.files: dict[tuple[str, str], LiveFile] = {}
        """By run and name."""
        self._asked: OrderedDict[EpisodeQuery, Array] = OrderedDict()
        self._lock = threading.Lock()
        self._has_changes = False
        self._database = connect()
        for segment in live:
            if not segment.rows:
                for file in segment.files:
                    self.files[file.found.run, file.found.name] = LiveFile(file.found, 0, 0, 0)
        self._load(there)

    def _load(self, there: set[FoundFile]) -> None:
        records = []
        for segment, base in zip(self._segments, self._bases[:-1].tolist(), strict=True):
            first_id = segment.number << NUMBER_BITS
            for index, (start, file) in enumerate(segment.starts()):
                if file.found in there:
                    live = LiveFile(file.found, base + start, file.rows, file.infra_failed)
                    self.files[file.found.run, file.found.name] = live
                    records.append((first_id + index, base - first_id, live))
        newest = sorted((live.found for _, _, live in records), key=lambda file: (-file.mtime_ns, file.run, file.name))
        rank = {file: number for number, file in enumerate(newest)}
        roles = evaluation_roles(self.files)
        names = [live.found for _, _, live in records]
        table = {
            "file": np.array([each for each, _, _ in records], np.int64),
            "shift": np.array([shift for _, shift, _ in records], np.int64),
            "newest": np.array([rank[file] for file in names], np.int64),
            "run": _texts(file.run for file in names),
            "name": _texts(file.name for file in names),
            "split": _texts(split_of(file.name) for file in names),
            "role": _texts(roles.get((file.run, file.name), "") for file in names),
        }
        self._database.register("files_table", table)
        self._database.execute(FILES)
        self._database.unregister("files_table")

    @property
    def n_rows(self) -> int:
        return sum(file.rows for file in self.files.values())

    def is_true(self, found: Iterable[FoundFile]) -> bool:
        """Whether all that it shows is still there."""
        there = set(found)
        return all(live.found in there for live in self.files.values()) and self.problems.keys() <= there

    def is_whole(self, found: Iterable[FoundFile]) -> bool:
        """Whether nothing is to be done for these files: all are known, and no others."""
        return self.catalog.known() == set(found)

    def counts(self) -> dict[str, Counts]:
        """Of every run that has files."""
        counted: dict[str, Counts] = {}
        for (run, _), live in self.files.items():
            so_far = counted.get(run, Counts())
            counted[run] = Counts(so_far.rollouts + live.rows, so_far.infra_failed + live.infra_failed)
        for file, text in self.problems.items():
            so_far = counted.get(file.run, Counts())
            counted[file.run] = replace(so_far, problems=(*so_far.problems, f"{ROLLOUTS}/{file.name}{SUFFIX} {text}"))
        return counted

    def positions(self, query: EpisodeQuery) -> Array:
        """All rows that match, in the order that is asked for; offset and limit play no part."""
        query = replace(query, offset=0, limit=0)
        if not self._segments:
            return np.zeros(0, np.int32)
        with self._lock:
            if query in self._asked:
                self._asked.move_to_end(query)
                return self._asked[query]
        found = self._positions(query)
        with self._lock:
            self._asked[query] = found
            while len(self._asked) > KEPT_ORDERS:
                self._asked.popitem(last=False)
        return found

    def _positions(self, query: EpisodeQuery) -> Array:
        if query.contains:
            found = self.positions(replace(query, contains=""))
            return found[self._contain(query.contains, found)[found]] if len(found) else found
        where, values = conditions(query)
        order = ORDERS[query.order]
        if order.needs_changes:
            self._compute_changes()
        statement = f"{order.select} WHERE {where} ORDER BY {order.keys}, f.newest, r.line"
        found = self._fetch(statement, {**values, "paths": self._parquet(range(len(self._segments)))})["position"]
        return found.astype(np.int32)

    def _contain(self, contains: str, positions: Array) -> Array:
        """[all rows] bool: which contain the text; looked up in the segments that the positions lie in."""
        mask = np.zeros(int(self._bases[-1]), bool)
        for number in np.unique(self._segments_of(positions)).tolist():
            start, end = int(self._bases[number]), int(self._bases[number + 1])
            mask[start:end] = rows_with(self._texts[number], writable(contains))
        return mask

    def rows(self, positions: Sequence[int]) -> list[EpisodeRow]:
        """The rows at these positions, in this order."""
        if not len(positions):
            return []
        self._compute_changes()
        at = np.asarray(positions, np.int64)
        segments = self._segments_of(at)
        numbers = np.array([segment.number for segment in self._segments], np.int64)
        ids = (numbers[segments] << NUMBER_BITS) + at - self._bases[segments]
        paths = self._parquet(np.unique(segments).tolist())
        columns = self._fetch(PAGE, {"ids": ids.tolist(), "paths": paths})
        found = {each: number for number, each in enumerate(columns["id"].tolist())}
        names = [name for name in columns if name != "id"]
        records = list(zip(*(columns[name].tolist() for name in names), strict=True))
        return [_row(dict(zip(names, records[found[each]], strict=True))) for each in ids.tolist() if each in found]

    def position_of(self, row: EpisodeRow) -> int | None:
        """Of a row that may come from an earlier snapshot; None where its file is gone."""
        live = self.files.get((row.run, row.file))
        return live.position + row.line if live and row.line < live.rows else None

    def find(self, run: str, rollout_id: str) -> EpisodeRow | None:
        """The newest row of that run and id."""
        wanted = [live for (name, _), live in self.files.items() if name == run]
        segments = np.unique(self._segments_of(np.array([live.position for live in wanted], np.int64)))
        if not len(wanted):
            return None
        where = "f.run = $run AND r.rollout_id = $rollout_id"
        statement = f"{ORDERS[Order.NEWEST].select} WHERE {where} ORDER BY f.newest, r.line LIMIT 1"
        values = {"run": writable(run), "rollout_id": writable(rollout_id), "paths": self._parquet(segments.tolist())}
        return next(iter(self.rows(self._fetch(statement, values)["position"])), None)

    def _compute_changes(self) -> None:
        with self._lock:
            if self._has_changes or not self._segments:
                return
            roles = [live.position for (_, name), live in self.files.items() if split_of(name) in EVALUATED]
            segments = np.unique(self._segments_of(np.array(roles or [0], np.int64)))
            self._fetch(CHANGES, {"paths": self._parquet(segments.tolist())})
            self._has_changes = True

    def _fetch(self, statement: str, values: dict[str, Any]) -> dict[str, Array]:
        with self._database.cursor() as cursor:
            return dict(cursor.execute(statement, values).fetchnumpy())

    def _parquet(self, segments: Iterable[int]) -> list[str]:
        return [str(self._paths[number] / ROWS) for number in segments]

    def _segments_of(self, positions: Array) -> Array:
        return np.searchsorted(self._bases, positions, side="right") - 1


def split_of(file: str) -> str:
    """train, validation or test, by a file's name; the batch that an outage withheld was one for training."""
    split = file.partition("-")[0]
    return split if split in SPLITS else ("train" if file == "withheld" else "")


def evaluation_roles(files: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Of (run, file): the first and the last evaluation of each split, `first` and `last`.

    The last one is that of the best policy, else of the final one, else the newest under way.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for run, name in files:
        split, _, which = name.partition("-")
        if split in EVALUATED and which:
            names.setdefault((run, split), []).append(which)
    roles = {}
    for (run, split), found in names.items():
        steps = sorted((which for which in found if which.isdigit()), key=int)
        last = next((which for which in ("best", "final", *reversed(steps)) if which in found), None)
        if "baseline" in found and last:
            roles[run, f"{split}-baseline"] = "first"
            roles[run, f"{split}-{last}"] = "last"
    return roles


def _texts(values: Iterable[str]) -> Array:
    return np.array(list(values), object)


def _row(values: dict[str, Any]) -> EpisodeRow:
    return EpisodeRow(**{**values, "tools": tuple(json.loads(values["tools"])), "step": None})
