"""RunDirectory: made whole or not at all, worked in by one process, left complete up to the last step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from agentrl.disk import PARTIAL, write_packed_lines, write_text
from agentrl.errors import CheckpointError
from agentrl.runs.files import (
    CHECKPOINTS,
    CONFIG,
    MANIFEST,
    METRICS,
    ROLLOUTS,
    SUMMARY,
    read_json,
    read_metrics,
    read_rollouts,
    rollouts_path,
    to_json,
)
from agentrl.runs.identity import identity_changes, refuse_changes
from agentrl.runs.lock import RunLock
from agentrl.runs.place import cannot_create, check_place, refuse_if_used, undo_creation
from agentrl.runs.token_facts import TokenFacts, token_facts_path, write_token_facts
from agentrl.runs.traces import to_trace
from agentrl.types import Rollout


def default_run_dir(name: str, base: str | Path = "runs") -> Path:
    """`base/NAME-YYYYmmdd-HHMMSS` in local time, with a number behind it where two runs start in one second."""
    stem = f"{name.replace(os.sep, '-')}-{datetime.now():%Y%m%d-%H%M%S}"
    path, number = Path(base) / stem, 2
    while path.exists():
        path, number = Path(base) / f"{stem}-{number}", number + 1
    return path


class RunDirectory:
    """What a run writes, and how a stopped run is taken up again. Use `create` or `open`; locked until `close`."""

    def __init__(self, path: Path, lock: RunLock) -> None:
        self.path = path
        self.lost_rollouts: list[str] = []
        """Names of the traces that could not be written, and of the facts of tokens, as tokens/NAME."""
        self._lock = lock
        self._on_kept: Callable[[str, int], None] | None = None

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r}, {'open' if self._lock.is_held else 'closed'})"

    @classmethod
    def create(cls, path: Path, *, config_yaml: str, manifest: Mapping[str, Any]) -> RunDirectory:
        """A new run in a directory that does not exist yet or is empty.

        Raises:
            CheckpointError: the directory holds files, is in use, or cannot be made; nothing has been written then.
        """
        path = Path(path)
        missing: list[Path] = []
        lock: RunLock | None = None
        is_ours = False
        try:
            refuse_if_used(path)
            missing = [each for each in (path, *path.parents) if not each.exists()]
            path.mkdir(parents=True, exist_ok=True)
            lock = RunLock.acquire(path)
            refuse_if_used(path, is_locked_by_us=True)  # another process may have come and gone since the first look
            is_ours = True
            (path / ROLLOUTS).mkdir(exist_ok=True)
            (path / CHECKPOINTS).mkdir(exist_ok=True)
            write_text(path / CONFIG, config_yaml)
            write_text(path / MANIFEST, to_json(manifest, indent=2) + "\n")  # last: its presence says "complete"
        except BaseException as error:
            if is_ours:
                undo_creation(path)
            if lock is not None:
                lock.release()
            for directory in missing:
                with suppress(OSError):
                    directory.rmdir()
            if isinstance(error, OSError):
                raise CheckpointError(cannot_create(path, error)) from error
            raise
        return cls(path, lock)

    @classmethod
    def open(
        cls,
        path: Path,
        config_yaml: str,
        manifest: Mapping[str, Any] | None = None,
        *,
        allow_change: Sequence[str] = (),
    ) -> RunDirectory:
        """An existing run, to go on in it with the identity that it had; its config.yaml then is the new one.

        Args:
            manifest: of the process that resumes, with its `versions`; kept under `resumed` in manifest.json.
            allow_change: keys, or sections of keys, that may differ; the changes are kept with the manifest.

        Raises:
            CheckpointError: there is no run, it is in use, it is damaged, or it differs (with the difference).
        """
        path = Path(path)
        check_place(path, resume=True)
        try:
            lock = RunLock.acquire(path)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be written: {error.strerror}") from error
        try:
            found = identity_changes(path, config_yaml, manifest or {})
            refuse_changes(path, found, allow_change)
            run = cls(path, lock)
            for left_over in path.rglob(f".*{PARTIAL}"):  # a killed process was writing it
                left_over.unlink()
            if found:
                write_text(path / CONFIG, config_yaml)
            if manifest is not None:
                recorded = read_json(path, MANIFEST)
                entry = {**manifest, "changes": [change.to_record() for change in found]}
                run.write_json(MANIFEST, {**recorded, "resumed": [*recorded.get("resumed", []), entry]})
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise CheckpointError(f"{path} cannot be resumed: {error}") from error
            raise
        return run

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl, on disk when this returns; NaN and infinity are written as null.

        Raises:
            CheckpointError: it cannot be written.
        """
        with _writing(self.path / METRICS), (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(to_json(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows so far."""
        return read_metrics(self.path)

    def replace_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """These rows in place of all that are there.

        Raises:
            CheckpointError: they cannot be written.
        """
        with _writing(self.path / METRICS):
            write_text(self.path / METRICS, "".join(to_json(row) + "\n" for row in rows))

    def keep_rollouts(self, name: str, rollouts: Iterable[Rollout], tell: Callable[[str], None]) -> None:
        """As `write_rollouts`, but a run goes on without traces that cannot be written: it tells, and counts them."""
        kept = list(rollouts)
        try:
            self.write_rollouts(name, kept)
        except OSError as error:
            self.lost_rollouts.append(name)
            tell(f"{rollouts_path(self.path, name)} cannot be written: {error.strerror}; going on without these traces")
            return
        if self._on_kept is not None:
            self._on_kept(name, len(kept))

    def watch_rollouts(self, on_kept: Callable[[str, int], None]) -> None:
        """Have somebody told of every file of rollouts that is complete, and how many are in it."""
        self._on_kept = on_kept

    def keep_token_facts(self, name: str, facts: Iterable[TokenFacts], tell: Callable[[str], None]) -> None:
        """tokens/NAME.jsonl.gz; a run goes on without those that cannot be written: it tells, and counts them."""
        try:
            write_token_facts(self.path, name, facts)
        except OSError as error:
            path = token_facts_path(self.path, name)
            self.lost_rollouts.append(f"{path.parent.name}/{name}")
            tell(f"{path} cannot be written: {error.strerror}; going on without these facts of tokens")

    def write_rollouts(self, name: str, rollouts: Iterable[Rollout]) -> Path:
        """Full traces to rollouts/NAME.jsonl.gz, one a line; an earlier file of that name is replaced."""
        path = rollouts_path(self.path, name)
        write_packed_lines(path, (to_json(to_trace(rollout)) for rollout in rollouts))
        return path

    def read_rollouts(self, name: str) -> list[dict[str, Any]]:
        """The traces of rollouts/NAME.jsonl.gz."""
        return read_rollouts(self.path, name)

    def write_json(self, name: str, obj: Any) -> Path:
        """The object as `name` in the run directory; a reader sees the old file or the new one, never a part.

        Raises:
            CheckpointError: it cannot be written.
        """
        with _writing(self.path / name):
            if (folder := (self.path / name).parent) != self.path:
                folder.mkdir(exist_ok=True)
            write_text(self.path / name, to_json(obj, indent=2) + "\n")
        return self.path / name

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """summary.json: the figures of the run so far."""
        return self.write_json(SUMMARY, summary)

    def checkpoint_path(self, name: str) -> Path:
        """Where the checkpoint of that name belongs; it need not exist."""
        return self.path / CHECKPOINTS / name

    def check(self) -> None:
        """Find out before work is spent on it that nothing can be kept any more.

        Raises:
            CheckpointError: the directory is gone, is another one, or cannot be written in.
        """
        if not self._lock.is_of(self.path):
            raise CheckpointError(f"{self.path} is no longer the directory that this run was started in")
        for folder in (self.path, self.path / ROLLOUTS, self.path / CHECKPOINTS):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise CheckpointError(f"{folder} cannot be written in any more")

    def state(self) -> list[str]:
        """For a checkpoint: the traces that could not be written."""
        return self.lost_rollouts

    def restore(self, state: list[str]) -> None:
        """Go back to what a checkpoint knew."""
        self.lost_rollouts = list(state)

    def close(self) -> None:
        """Lets other processes in."""
        self._lock.release()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the disk refuses is an error that names the file.

    Raises:
        CheckpointError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror or error}") from error
