"""What people have said of an episode, and whether it waits for more of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agentrl.errors import ConfigError
from agentrl.labels import (
    PICKED,
    AuditEntry,
    Rating,
    labels_path,
    picks_path,
    queued_evaluations,
    read_audit_queue,
    read_labels,
    whoever_this_is,
)
from agentrl.labels.audit_queue import queue_path
from agentrl.ui.index import EpisodeRow, RunsIndex
from agentrl.ui.traces.views import EpisodeView


@dataclass(frozen=True)
class LabelView:
    """The label section of an episode's page."""

    refusal: str = ""
    """Why nothing can be labelled here."""
    entry: AuditEntry | None = None
    """In the audit queue."""
    ratings: tuple[Rating, ...] = ()
    rater: str = ""
    """Who is asked, until they say otherwise."""

    @property
    def is_picked(self) -> bool:
        """A person put it into the queue, and can take it out."""
        return self.entry is not None and PICKED in self.entry.why.split(", ")


def labels_of(index: RunsIndex, row: EpisodeRow, episode: EpisodeView) -> LabelView:
    """What the audit of the run knows of an episode; never raises."""
    run = index.run_path(row.run)
    if run is None:
        return LabelView("The run is gone.")
    if refusal := refusal_of(row, episode):
        return LabelView(refusal)
    try:
        for path in (labels_path(run), picks_path(run, row.file), queue_path(run, row.file)):
            own_path(run, path)
        queue = read_audit_queue(run, row.file) if row.file in queued_evaluations(run) else ()
        ratings = read_labels(labels_path(run)).ratings if labels_path(run).exists() else ()
    except (ConfigError, ValueError, OSError, RecursionError) as error:
        return LabelView(f"The audit of this run cannot be read: {error}")
    return LabelView(
        entry=next((entry for entry in queue if entry.rollout_id == row.rollout_id), None),
        ratings=tuple(rating for rating in ratings if rating.rollout_id == row.rollout_id),
        rater=whoever_this_is(),
    )


def refusal_of(row: EpisodeRow, episode: EpisodeView) -> str:
    """Why an episode is not labelled, empty where it is."""
    if row.split == "test":
        return "Episodes of the test split are not labelled: what is learned from them can no longer be measured."
    if row.outcome == "infra_failed" or episode.grade.score is None:
        return "It has no score that counts: an audit holds people against the grader."
    if not row.task_id.strip():
        return "It names no task."
    return ""


def entry_of(row: EpisodeRow, episode: EpisodeView, note: str) -> AuditEntry:
    """What the queue says of an episode that a person picks."""
    return AuditEntry(
        row.rollout_id, row.task_id, PICKED, episode.grade.score or 0.0, dict(episode.grade.holdout), note
    )


def own_path(run: Path, path: Path) -> Path:
    """The path, which leads nowhere else: to an ordinary file, or to none yet.

    Raises:
        ConfigError: a symbolic link in the run would have another file read or written, or a pipe would hang the page.
    """
    if path.resolve() != run.resolve() / path.relative_to(run):
        raise ConfigError(f"{path}: is a link to elsewhere; nothing is read or written through it")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is no ordinary file")
    return path


def picks_of(run: Path, row: EpisodeRow) -> Path:
    """Where picks from the episode's file go.

    Raises:
        ConfigError: nothing may be written there.
    """
    try:
        return own_path(run, picks_path(run, row.file))
    except ValueError as error:
        raise ConfigError(str(error)) from error
