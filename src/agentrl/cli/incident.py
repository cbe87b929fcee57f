"""`agentrl incident`: what went wrong in releases, until somebody has said why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.options import As, Config, Json, Set, opened, who_says
from agentrl.cli.release_lines import print_json, when
from agentrl.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

incident = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, describe and close incidents.")

Id = Annotated[str, typer.Argument(metavar="INCIDENT", help="Id, its beginning, or the id of its release.")]
Class = Annotated[
    str | None, typer.Option("--class", metavar="CLASS", help="policy, grader, tool, infra, data or unknown.")
]
Owner = Annotated[str | None, typer.Option(metavar="OWNER", help="ML, Platform or Product.")]
Cause = Annotated[str | None, typer.Option(metavar="TEXT", help="Why it happened.")]
Assumption = Annotated[str | None, typer.Option(metavar="TEXT", help="What was believed and is not true.")]
FollowUp = Annotated[str | None, typer.Option(metavar="TEXT", help="What is done so that it does not happen again.")]
Severity = Annotated[str | None, typer.Option(metavar="WORD", help="soft or hard.")]


@incident.callback()
def _incident() -> None:
    """List, describe and close incidents."""


@incident.command("list")
def list_all(
    config: Config,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not closed.")] = False,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """List incidents, the latest first."""
    from agentrl.release.lifecycle.incidents import read_incidents

    _, place = opened(config, overrides)
    found = read_incidents(place, is_open=True if only_open else None)[::-1]
    if as_json:
        print_json(found)
    elif not found:
        print(f"{printable(place.workflow)}: no incident" + (" is open" if only_open else ""))
    else:
        print("\n".join(_table(found)))


@incident.command()
def show(config: Config, incident_id: Id, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """Show one: its times, its gates, its sessions, what people said of it."""
    from agentrl.release.lifecycle.incidents import find_incident

    found = find_incident(opened(config, overrides)[1], incident_id)
    if as_json:
        print_json(found)
    else:
        print("\n".join(_lines(found)))


@incident.command()
def update(
    config: Config,
    incident_id: Id,
    kind: Class = None,
    owner: Owner = None,
    cause: Cause = None,
    assumption: Assumption = None,
    follow_up: FollowUp = None,
    severity: Severity = None,
    who: As = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Say more about an incident."""
    told = _told(kind, owner, cause, assumption, follow_up, severity)
    if not told:
        from agentrl.errors import ConfigError

        raise ConfigError("nothing to say: give --class, --owner, --cause, --assumption, --follow-up or --severity")
    _change(config, incident_id, told, who, overrides, as_json, is_closing=False)


@incident.command()
def close(
    config: Config,
    incident_id: Id,
    kind: Class = None,
    owner: Owner = None,
    cause: Cause = None,
    assumption: Assumption = None,
    follow_up: FollowUp = None,
    severity: Severity = None,
    who: As = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Close an incident that has a class, an owner and a cause."""
    told = _told(kind, owner, cause, assumption, follow_up, severity)
    _change(config, incident_id, told, who, overrides, as_json, is_closing=True)


def _told(
    kind: str | None,
    owner: str | None,
    cause: str | None,
    assumption: str | None,
    follow_up: str | None,
    severity: str | None,
) -> dict[str, str]:
    said = {
        "class": kind,
        "owner": owner,
        "cause": cause,
        "invalidated_assumption": assumption,
        "follow_up": follow_up,
        "severity": severity,
    }
    return {key: text for key, text in said.items() if text is not None}


def _change(
    config: Path,
    incident_id: str,
    told: Mapping[str, str],
    who: str | None,
    overrides: list[str],
    as_json: bool,
    *,
    is_closing: bool,
) -> None:
    from datetime import UTC, datetime

    from agentrl.release.lifecycle.incidents import update_incident

    changed = update_incident(
        opened(config, overrides)[1],
        incident_id,
        told,
        actor=who_says(who),
        now=datetime.now(UTC).timestamp(),
        is_closing=is_closing,
    )
    if as_json:
        print_json(changed)
    else:
        print("\n".join(_lines(changed)))


def _table(found: list[dict[str, Any]]) -> Iterator[str]:
    width = max(len(each["release_id"]) for each in found)
    yield f"{'incident':<19}  {'release':<{width}}  trigger                rollback  sessions  class    owner     state"
    for each in found:
        record = each["record"]
        took = _seconds(record)["rollback_seconds"]
        state = "open" if each["closed_at"] is None else f"closed by {record['closed_by']}"
        affected = record["sessions_affected"]
        yield printable(
            f"{each['id']:<19}  {each['release_id']:<{width}}  {record['trigger']:<21}  "
            f"{'-' if took is None else f'{took:.1f} s':>8}  {'-' if affected is None else affected:>8}  "
            f"{record['class'] or '-':<7}  {record['owner'] or '-':<8}  {state}"
        )


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from agentrl.release.lifecycle.incidents import NEEDED

    record = found["record"]
    yield f"{found['id']}: {found['release_id']}, {record['from']} -> rolled_back, {record['trigger']}"
    yield from (f"  {line}" for line in [printable(record["text"])] if line)
    for key, what in (
        ("t_breach", "breach"),
        ("t_decision", "decision"),
        ("t_route_zero", "routed away"),
        ("t_drained", "drained"),
        ("recovered_at", "recovered"),
    ):
        yield f"  {what:<12} {when(record.get(key))}"
    clocks = {name.removesuffix("_seconds"): at for name, at in _seconds(record).items() if at is not None}
    yield "  " + (", ".join(f"{name} {seconds:.1f} s" for name, seconds in clocks.items()) or "not drained yet")
    if record["sessions_affected"] is not None:
        yield f"  {record['sessions_affected']} sessions had talked to the candidate"
    for key in ("class", "owner", "cause", "invalidated_assumption", "follow_up"):
        missing = "missing" if key in NEEDED else "-"
        yield f"  {key.replace('_', ' '):<22} {printable(record[key] or missing)}"
    yield (
        f"  open since {when(found['opened_at'])}"
        if found["closed_at"] is None
        else (f"  closed by {printable(record['closed_by'])} at {when(found['closed_at'])}")
    )


def _seconds(record: Mapping[str, Any]) -> dict[str, float | None]:
    from agentrl.release.lifecycle.drain import clocks_of

    return clocks_of(record)
