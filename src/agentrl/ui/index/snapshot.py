"""The index as it is at one moment, and the questions that are put to it. Never changed: the next moment has its own.

A row's position is its place among all rows. A question is answered by the positions that match, in order; what a row
shows is fetched for a page only.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from agentrl.runs.files import ROLLOUTS
from agentrl.runs.trace_files import SUFFIX
from agentrl.ui.index import sql
from agentrl.ui.index.array_file import Array
from agentrl.ui.index.catalog import Catalog
from agentrl.ui.index.database import ask, threads
from agentrl.ui.index.episodes import writable
from agentrl.ui.index.folder import IndexFolder
from agentrl.ui.index.live_files import Group, LiveFile, first_and_last, live_files
from agentrl.ui.index.ordering import in_order, newest_first
from agentrl.ui.index.places import FoundFile
from agentrl.ui.index.records import EpisodeQuery, EpisodeRow, Order
from agentrl.ui.index.run_rows import Counts
from agentrl.ui.index.segments import NUMBER_BITS, ROWS
from agentrl.ui.index.text_search import rows_with

KEPT_ANSWERS = 8
"""Questions whose positions are kept for their next page, 4 bytes a row."""


class Snapshot:
    """May be asked from several threads at once."""

    def __init__(self, folder: IndexFolder, catalog: Catalog, found: Iterable[FoundFile]) -> None:
        there = set(found)
        self.catalog = catalog
        self.problems = {file: text for file, text in catalog.problems.items() if file in there}
        self._segments = [each for each in catalog.segments if any(file.found in there for file in each.files)]
        self._folders = [folder.segment_path(segment) for segment in self._segments]
        self._texts = [folder.texts(segment) for segment in self._segments]
        self._bases = np.cumsum([0, *(segment.rows for segment in self._segments)])
        """[segments + 1] position of each segment's first row, and the number of rows."""
        self._live = live_files(self._segments, there)
        self.files = {(live.found.run, live.found.name): live for live in self._live}
        """By run and name."""
        self._known: OrderedDict[EpisodeQuery, Array] = OrderedDict()
        self._evaluations = first_and_last(live for live in self._live if live.rows)
        self._known_changes: dict[Group, dict[str, float]] = {}
        self._lock = threading.Lock()

    @property
    def n_rows(self) -> int:
        return sum(live.rows for live in self._live)

    def is_true(self, found: Collection[FoundFile]) -> bool:
        """Whether all that it shows is still there, and nothing that the index knows is missing."""
        there = set(found)
        shown = {live.found for live in self._live} | self.problems.keys()
        return shown == there & self.catalog.known

    def counts(self) -> dict[str, Counts]:
        """Of every run that has files."""
        counted: dict[str, Counts] = {}
        for live in self._live:
            so_far = counted.get(live.found.run, Counts())
            counted[live.found.run] = Counts(so_far.rollouts + live.rows, so_far.infra_failed + live.infra_failed)
        for file, text in self.problems.items():
            so_far = counted.get(file.run, Counts())
            counted[file.run] = replace(so_far, problems=(*so_far.problems, f"{ROLLOUTS}/{file.name}{SUFFIX} {text}"))
        return counted

    def positions(self, query: EpisodeQuery) -> Array:
        """All rows that match, in the order that is asked for; offset and limit play no part."""
        query = replace(query, offset=0, limit=0)
        with self._lock:
            found = self._known.get(query)
        if found is None:
            found = self._positions(query)
        with self._lock:
            self._known[query] = found
            self._known.move_to_end(query)
            while len(self._known) > KEPT_ANSWERS:
                self._known.popitem(last=False)
        return found

    def _positions(self, query: EpisodeQuery) -> Array:
        if query.contains:
            found = self.positions(replace(query, contains=""))
            return found[self._contain(query.contains, found)[found]] if len(found) else found
        wanted = [live for live in self._live if live.rows and _is_wanted(live, query)]
        if not wanted:
            return np.zeros(0, np.int32)
        newest = newest_first(wanted)
        has_keys = self._has_keys(query, wanted)
        ranked, unranked = self._ranked(query, [live for live in wanted if has_keys[live.group]], newest)
        is_left = np.zeros(int(self._bases[-1]), bool)
        is_left[unranked] = True
        is_left[self._matching(query, [live for live in wanted if not has_keys[live.group]])["position"]] = True
        return np.concatenate([ranked, newest[is_left[newest]]])

    def _has_keys(self, query: EpisodeQuery, wanted: Iterable[LiveFile]) -> dict[Group, bool]:
        """Whether rows of these runs and splits can have something to be ranked by."""
        groups = dict.fromkeys(live.group for live in wanted)
        if query.order is not Order.LARGEST_CHANGE:
            return dict.fromkeys(groups, query.order is not Order.NEWEST)
        changes = self._changes(groups)
        return {group: bool(changes[group]) for group in groups}

    def _ranked(self, query: EpisodeQuery, files: Sequence[LiveFile], newest: Array) -> tuple[Array, Array]:
        """Positions of matching rows that have a key, in order, and of those that have none."""
        if not files:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        found = self._matching(query, files, order=query.order)
        keys = np.ma.filled(found["key"].astype(np.float64), np.inf)
        has_key = np.isfinite(keys)
        place = np.empty(int(self._bases[-1]), np.int32)
        place[newest] = np.arange(len(newest), dtype=np.int32)
        ranked = in_order(keys[has_key], place[found["position"][has_key]])
        return newest[ranked], found["position"][~has_key]

    def _matching(
        self, query: EpisodeQuery, files: Sequence[LiveFile], order: Order = Order.NEWEST
    ) -> dict[str, Array]:
        """Positions of rows of some files that match but for their text, and their keys where the order has any."""
        if not files or (order is Order.NEWEST and not sql.conditions(query)[1]):
            return {"position": newest_first(files)}
        if order is not Order.LARGEST_CHANGE and not sql.conditions(query)[1]:
            return self._all_keys(files, order)
        groups = {group: number for number, group in enumerate(dict.fromkeys(live.group for live in files))}
        tables = {"files": self._table(files) | {"grp": _numbers(groups[live.group] for live in files)}}
        if order is Order.LARGEST_CHANGE:
            known = self._changes(groups)
            changes = [(groups[group], *change) for group in groups for change in known[group].items()]
            tables["changes"] = {
                "grp": _numbers(number for number, _, _ in changes),
                "task_id": np.array([task for _, task, _ in changes], object),
                "change": np.array([value for _, _, value in changes], np.float64),
            }
        statement, values = sql.matching(replace(query, order=order))
        return ask(statement, {**values, "paths": self._parquet(files)}, tables)

    def _all_keys(self, files: Sequence[LiveFile], order: Order) -> dict[str, Array]:
        """Of all rows of some files: rows lie in their segments in the order of their positions."""
        segments = sorted({live.segment for live in files})
        keys = ask(sql.all_keys(order), {"paths": self._parquet(files)})["key"]
        positions = np.concatenate([np.arange(self._bases[each], self._bases[each + 1]) for each in segments])
        is_wanted = np.zeros(int(self._bases[-1]), bool)
        is_wanted[newest_first(files)] = True
        is_wanted = is_wanted[positions]
        return {"position": positions[is_wanted], "key": keys[is_wanted]}

    def _contain(self, contains: str, positions: Array) -> Array:
        """[all rows] bool: which contain the text, of the segments that the positions lie in."""
        mask = np.zeros(int(self._bases[-1]), bool)

        def look(number: int) -> None:
            start, end = int(self._bases[number]), int(self._bases[number + 1])
            mask[start:end] = rows_with(self._texts[number], writable(contains))

        with ThreadPoolExecutor(threads()) as pool:
            list(pool.map(look, np.unique(self._segments_of(positions)).tolist()))
        return mask

    def rows(self, positions: Sequence[int]) -> list[EpisodeRow]:
        """The rows at these positions, in this order; their steps are not filled in."""
        if not len(positions):
            return []
        at = np.asarray(positions, np.int64)
        segments = self._segments_of(at)
        firsts = np.array([segment.number << NUMBER_BITS for segment in self._segments], np.int64)
        ids = (firsts[segments] + at - self._bases[segments]).tolist()
        paths = [sql.literal(self._folders[number] / ROWS) for number in np.unique(segments).tolist()]
        columns = {name: values.tolist() for name, values in ask(sql.PAGE, {"ids": ids, "paths": paths}).items()}
        places = {each: place for place, each in enumerate(columns.pop("id"))}
        owners = self._owners(at)
        changes = self._changes(owner.group for owner in owners)
        return [
            _row(owner, {name: values[places[each]] for name, values in columns.items()}, changes[owner.group])
            for each, owner in zip(ids, owners, strict=True)
        ]

    def _owners(self, positions: Array) -> list[LiveFile]:
        """The files that the rows at these positions are of."""
        files = sorted((live for live in self._live if live.rows), key=lambda live: live.position)
        starts = _numbers(live.position for live in files)
        places: Array = np.searchsorted(starts, positions, side="right") - 1
        return [files[place] for place in places.tolist()]

    def position_of(self, row: EpisodeRow) -> int | None:
        """Of a row that may come from an earlier snapshot; None where its file is gone."""
        live = self.files.get((row.run, row.file))
        return live.position + row.line if live and row.line < live.rows else None

    def find(self, run: str, rollout_id: str) -> EpisodeRow | None:
        """The newest row of that run and id."""
        wanted = [live for live in self._live if live.found.run == run and live.rows]
        if not wanted:
            return None
        values = {"rollout_id": writable(rollout_id), "paths": self._parquet(wanted)}
        found = ask(sql.FIND, values, {"files": self._table(wanted)})["position"]
        return next(iter(self.rows(found[:1].tolist())), None)

    def _changes(self, groups: Iterable[Group]) -> Mapping[Group, Mapping[str, float]]:
        """By how much items changed in these runs and splits; looked up once for each."""
        with self._lock:
            new = [group for group in dict.fromkeys(groups) if group not in self._known_changes]
            self._known_changes.update({group: {} for group in new})
            pairs = [self._evaluations[group] for group in new if group in self._evaluations]
            if pairs:
                files = [live for pair in pairs for live in pair]
                table = self._table(files) | {
                    "grp": np.repeat(np.arange(len(pairs)), 2),
                    "is_last": np.tile([False, True], len(pairs)),
                }
                found = ask(sql.CHANGES, {"paths": self._parquet(files)}, {"files": table})
                columns = (found[name].tolist() for name in ("grp", "task_id", "change"))
                for number, task, change in zip(*columns, strict=True):
                    self._known_changes[pairs[number][0].group][task] = change
            return self._known_changes

    def _table(self, files: Sequence[LiveFile]) -> dict[str, Array]:
        return {
            "file": _numbers(live.id for live in files),
            "shift": _numbers(live.shift for live in files),
            "newness": _numbers(live.newness for live in files),
        }

    def _parquet(self, files: Iterable[LiveFile]) -> list[str]:
        return [sql.literal(self._folders[number] / ROWS) for number in sorted({live.segment for live in files})]

    def _segments_of(self, positions: Array) -> Array:
        return np.searchsorted(self._bases, positions, side="right") - 1


def _is_wanted(live: LiveFile, query: EpisodeQuery) -> bool:
    return (
        (not query.runs or live.found.run in query.runs)
        and query.file in ("", live.found.name)
        and query.split in ("", live.split)
        and not (query.without_split and query.without_split == live.split)
    )


def _row(live: LiveFile, values: dict[str, Any], changes: Mapping[str, float]) -> EpisodeRow:
    return EpisodeRow(
        **{**values, "tools": tuple(json.loads(values["tools"]))},
        run=live.found.run,
        file=live.found.name,
        split=live.split,
        step=None,
        change=changes.get(values["task_id"]),
    )


def _numbers(values: Iterable[int]) -> Array:
    return np.fromiter(values, np.int64)
