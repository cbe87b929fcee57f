"""RunsIndex: what the pages ask of a directory of runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from agentrl.errors import ConfigError
from agentrl.runs.files import rollouts_path
from agentrl.ui.index.builder import Builder, Stop, is_up_to_date
from agentrl.ui.index.catalog import Catalog
from agentrl.ui.index.database import database
from agentrl.ui.index.episodes import DamagedFile, read_trace, writable
from agentrl.ui.index.folder import IndexFolder, index_folder
from agentrl.ui.index.live_files import EVALUATED
from agentrl.ui.index.locks import HeldLocks
from agentrl.ui.index.metrics import MetricsTail
from agentrl.ui.index.places import FoundFile, find_files, find_runs
from agentrl.ui.index.records import EpisodePage, EpisodeQuery, EpisodeRow, RunRow
from agentrl.ui.index.run_rows import Counts, RunFacts
from agentrl.ui.index.snapshot import Snapshot

OPENING_SECONDS = 0.5
"""That opening spends on files which are not in the index yet; `refresh` takes the rest."""

Answer = TypeVar("Answer")


class RunsIndex:
    """Runs and episodes below a directory. Safe to ask from several threads, and from several processes at once.

    Args:
        runs_dir: holds run directories, at any depth up to four; or is one.

    Raises:
        ConfigError: it is no directory, duckdb is not installed, or the index can be written nowhere.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.root = Path(runs_dir).resolve()
        if not self.root.is_dir():
            raise ConfigError(f"{runs_dir}: no such directory; give one that holds runs, such as runs/")
        try:
            self._folder = IndexFolder(index_folder(self.root))
        except (OSError, RuntimeError) as error:  # there may be no home directory
            raise ConfigError(
                f"{runs_dir}: its index can be written neither there nor in your cache ({error}); set XDG_CACHE_HOME"
            ) from error
        database()
        self._paths: dict[str, Path] = {}
        self._found: list[FoundFile] = []
        self._metrics, self._facts = MetricsTail(), RunFacts()
        self._refreshing = threading.Lock()
        self._is_closed = self._is_discarded = False
        self._stamp: tuple[int, int, int] | None = None
        self._snapshot = Snapshot(self._folder, Catalog(), ())
        self.refresh(seconds=OPENING_SECONDS)

    def __repr__(self) -> str:
        return f"RunsIndex({str(self.root)!r}, {len(self._paths)} runs, {self._snapshot.n_rows} episodes)"

    def refresh(self, seconds: float = float("inf")) -> int:
        """Look for what is new, changed or gone; what is built is seen at once, and kept if time runs out.

        Where another process builds this index, its work is seen and nothing is done twice.

        Args:
            seconds: after which no further file is begun.

        Returns:
            Files that were read.

        Raises:
            OSError: the index can no longer be written.
        """
        stop = Stop(time.monotonic() + seconds, lambda: self._is_closed)
        with self._refreshing:
            self._paths = find_runs(self.root)
            self._found = [file for run, path in self._paths.items() for file in find_files(run, path)]
            self._metrics.forget(set(self._paths.values()))
            self._facts.forget(set(self._paths.values()))
            self._load()
            if is_up_to_date(self._snapshot.catalog, self._found):
                return 0
            with self._folder.writing() as may_write:
                return Builder(self._folder, self._paths, self._publish).update(self._found, stop) if may_write else 0

    @property
    def unread(self) -> int:
        """Files of rollouts that are on disk and not yet in the index."""
        known = self._snapshot.catalog.known
        return sum(file not in known for file in self._found)

    def _load(self, *, anew: bool = False) -> None:
        """Take over what this or another process has written."""
        stamp = self._folder.stamp()
        is_true = stamp == self._stamp and self._snapshot.is_true(self._found)
        if anew or not is_true or not self._folder.is_whole(self._snapshot.catalog):
            self._stamp = stamp
            self._snapshot = Snapshot(self._folder, self._folder.read(), self._found)

    def _publish(self, catalog: Catalog) -> None:
        self._stamp = self._folder.stamp()
        self._snapshot = Snapshot(self._folder, catalog, self._found)

    def _ask(self, question: Callable[[Snapshot], Answer]) -> Answer:
        """Of the newest snapshot; once more where its files went away meanwhile, as another process may do."""
        import duckdb

        try:
            return question(self._snapshot)
        except (OSError, ValueError, LookupError, duckdb.Error):
            self._load(anew=True)
        try:
            return question(self._snapshot)
        except (OSError, ValueError, LookupError, duckdb.IOException, duckdb.InvalidInputException):
            if not self._discard():
                raise
            return question(self._snapshot)

    def _discard(self) -> bool:
        """Forget an index that is damaged though its files have their sizes, so that `refresh` builds it anew.

        Once: what fails again has another reason. Returns whether it was done.
        """
        if self._is_discarded:
            return False
        with self._refreshing, self._folder.writing() as may_write:
            if may_write:
                self._is_discarded = True
                self._folder.write(Catalog())
                self._load(anew=True)
        return self._is_discarded

    def runs(self) -> list[RunRow]:
        """All runs, by name."""
        counts, locks = self._snapshot.counts(), HeldLocks()
        return [
            self._facts.row(name, path, counts.get(name, Counts()), is_running=locks.is_held(path))
            for name, path in self._paths.items()
        ]

    def run_path(self, run: str) -> Path | None:
        """Where the run of that name lies; None where there is none."""
        return self._paths.get(run)

    def metrics(self, run: str) -> list[dict[str, Any]]:
        """Rows of its metrics.jsonl so far, in order; only what is new is parsed. Empty where there is no such run."""
        path = self.run_path(run)
        return self._metrics.rows(path) if path else []

    def files(self, run: str) -> list[str]:
        """Its files of rollouts that are in the index, by name."""
        return sorted(name for owner, name in self._snapshot.files if owner == run)

    def episodes(self, query: EpisodeQuery) -> EpisodePage:
        """A page of the episodes that match, and how many match in all."""
        start, end = max(0, query.offset), max(0, query.offset) + max(0, query.limit)

        def page(snapshot: Snapshot) -> EpisodePage:
            found = snapshot.positions(query)
            return EpisodePage(tuple(self._told(snapshot.rows(found[start:end].tolist()))), len(found))

        return self._ask(page)

    def episode(self, run: str, rollout_id: str) -> tuple[EpisodeRow, dict[str, Any]] | None:
        """The row and the whole trace of one episode; None where there is none."""
        row = self._ask(lambda snapshot: snapshot.find(run, rollout_id))
        path = self.run_path(run)
        if row is None or path is None:
            return None
        try:
            trace = read_trace(rollouts_path(path, row.file), row.line)
        except (DamagedFile, OSError):  # gone or replaced since the last look
            return None
        return (self._told([row])[0], trace) if writable(str(trace.get("id"))) == row.rollout_id else None

    def siblings(self, run: str, task_id: str) -> list[EpisodeRow]:
        """All episodes of an item in the run's evaluations: by file, then by sample."""
        query = EpisodeQuery(runs=(run,), task_id=task_id)
        rows = self._ask(lambda snapshot: snapshot.rows(snapshot.positions(query).tolist()))
        measured = [row for row in rows if row.split in EVALUATED]
        return sorted(self._told(measured), key=lambda row: (row.file, row.sample_index, row.line))

    def neighbours(self, query: EpisodeQuery, row: EpisodeRow) -> tuple[EpisodeRow | None, EpisodeRow | None]:
        """The episodes before and after one in the order of a question; None at its ends, and where it is not there."""

        def beside(snapshot: Snapshot) -> list[EpisodeRow | None]:
            found, position = snapshot.positions(query), snapshot.position_of(row)
            places = [] if position is None else np.flatnonzero(found == position).tolist()
            if not places:
                return [None, None]
            wanted = [place for place in (places[0] - 1, places[0] + 1) if 0 <= place < len(found)]
            rows = dict(zip(wanted, self._told(snapshot.rows(found[wanted].tolist())), strict=True))
            return [rows.get(places[0] - 1), rows.get(places[0] + 1)]

        before, after = self._ask(beside)
        return before, after

    def close(self) -> None:
        """Ends a `refresh` that is under way; what it has built is kept."""
        self._is_closed = True

    def _told(self, rows: Iterable[EpisodeRow]) -> list[EpisodeRow]:
        """With their steps: of the best and the final policy the summary knows them."""
        return [replace(row, step=self._step(row)) for row in rows]

    def _step(self, row: EpisodeRow) -> int | None:
        which = row.file.partition("-")[2]
        if which.isdigit():
            return int(which)
        if which == "baseline":
            return 0
        path = self.run_path(row.run)
        return self._facts.step_of(path, which) if path else None
