"""Releases, and the workflow's own row, as the database has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import select

from agentrl.errors import ConfigError
from agentrl.release.lifecycle.states import UNDER_WAY
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from agentrl.release.store import tables


@dataclass(frozen=True)
class Workflow:
    """What all users are served, what served them before, and whether releases are halted."""

    name: str
    general_bundle: str = ""
    general_upstream: str = ""
    previous_bundle: str = ""
    previous_upstream: str = ""
    halted_at: float | None = None
    halt: Mapping[str, Any] | None = None
    """The reason, and the failures that led to it."""
    failures_count_from: float = 0.0
    version: int = 0

    @property
    def is_halted(self) -> bool:
        """Whether no canary may start and no share may grow."""
        return self.halted_at is not None


def read_release(place: ReleasePlace, release_id: str) -> Release:
    """One release, by its id or the beginning of it.

    Raises:
        ConfigError: the workflow has none of that id, or several.
    """
    columns = tables.releases.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(tables.releases)
            .where(columns.workflow == place.workflow, columns.id.startswith(release_id, autoescape=True))
            .limit(2)
        ).all()
        if len(rows) > 1:
            rows = [row for row in rows if row.id == release_id] or rows
    if len(rows) != 1:
        found = "several releases begin so" if rows else "no release begins so"
        raise ConfigError(f"{place.workflow}: {release_id!r}: {found}; `agentrl release list` shows them")
    return _release(rows[0]._mapping)


def list_releases(place: ReleasePlace, *states: ReleaseState) -> list[Release]:
    """All of the workflow, or those in these states, the oldest first."""
    columns = tables.releases.c
    wanted = select(tables.releases).where(columns.workflow == place.workflow)
    if states:
        wanted = wanted.where(columns.state.in_([str(state) for state in states]))
    with place.store.read() as connection:
        rows = connection.execute(wanted.order_by(columns.created_at, columns.id)).all()
    return [_release(row._mapping) for row in rows]


def release_under_way(place: ReleasePlace) -> Release | None:
    """The one between draft and canary, if there is one."""
    found = list_releases(place, *UNDER_WAY)
    return found[0] if found else None


def general_release(place: ReleasePlace) -> Release | None:
    """The one that serves all users, if releases have begun."""
    found = list_releases(place, ReleaseState.GENERAL)
    return found[-1] if found else None


def read_workflow(place: ReleasePlace) -> Workflow:
    """The workflow's row; of a workflow without releases, an empty one."""
    with place.store.read() as connection:
        row = connection.execute(
            select(tables.workflows).where(tables.workflows.c.name == place.workflow)
        ).one_or_none()
    if row is None:
        return Workflow(place.workflow)
    return Workflow(**{field.name: row._mapping[field.name] for field in fields(Workflow)})


def _release(row: Mapping[Any, Any]) -> Release:
    values = {field.name: row[field.name] for field in fields(Release)}
    return Release(**{**values, "state": ReleaseState(row["state"])})
