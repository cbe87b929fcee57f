"""From the source of a figure back to the store, by a way of its own."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import select

from agentrl.release.place import ReleasePlace
from agentrl.release.store import tables

KEYS = {"transitions": ("workflow", "entry"), "budgets": ("workflow", "week")}


def value_at(place: ReleasePlace, twin: dict[str, Any], source: str) -> Any:
    """What the store, or the twin itself, says at a source; None where it names no record."""
    if source.startswith("twin:"):
        return _counted(twin, source.removeprefix("twin:"))
    if "[" in source:
        return _aggregate(place, source)
    if "#" not in source:
        return None
    key, field = source.split("#")
    name, _, rest = key.partition("/")
    row = _row(place, name, rest)
    if name == "verdicts" and field == "half_width":
        return (row["record"]["upper"] - row["record"]["lower"]) / 2
    if name == "verdicts" and field == "confidence":
        return round(1 - row["record"]["alpha"], 12)
    if name == "incidents" and (times := re.fullmatch(r"(\w+)-(\w+)", field)):
        return row["record"][times[1]] - row["record"][times[2]]
    return _field(row, field)


def _row(place: ReleasePlace, name: str, rest: str) -> dict[str, Any]:
    table = getattr(tables, name)
    values = rest.rsplit("/", 1) if name in KEYS else [rest]
    wanted = select(table)
    for column, value in zip(KEYS.get(name, ("id",)), values, strict=True):
        wanted = wanted.where(table.c[column] == (int(value) if column == "entry" else value))
    with place.store.read() as connection:
        return dict(connection.execute(wanted).one()._mapping)


def _field(row: dict[str, Any], field: str) -> Any:
    value: Any = row
    parts = field.split(".")
    if parts[0] not in row:
        value = row["record"]
    for part in parts:
        value = value[part] if isinstance(value, dict) else None
    return value


def _counted(twin: dict[str, Any], what: str) -> int:
    found = re.fullmatch(r"(len|count)\(([\w.]+)(?:,(\w+)=(\w+))?\)", what)
    assert found is not None, what
    rows: Any = twin
    for part in found[2].split("."):
        rows = rows[part]
    if found[1] == "len":
        return len(rows)
    return sum(str(row[found[3]]) == found[4] for row in rows)


def _aggregate(place: ReleasePlace, source: str) -> Any:
    found = re.fullmatch(r"(\w+)\[(.*)\]#(\w+)", source)
    assert found is not None, source
    table = getattr(tables, found[1])
    wanted = dict(pair.split("=") for pair in found[2].split(","))
    with place.store.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(table))]
    rows = [
        row
        for row in rows
        if row["release_id"] == wanted["release"]
        and all(str(row[key]).lower() == wanted[key] for key in wanted if key != "release")
    ]
    if found[3] == "count":
        return len(rows)
    times = [row["assigned_at"] for row in rows]
    return (max(times) - min(times)) / 86400 if times else None
