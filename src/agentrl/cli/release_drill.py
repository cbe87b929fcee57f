"""`agentrl release drill`: prove that the candidate is given up in time, with real processes, before users need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.options import As, Config, Json, Set, opened, who_says

if TYPE_CHECKING:
    from agentrl.release.drill.record import Drill

KINDS = "rollback, controller-killed or gateway-killed"


def drill(
    config: Config,
    release_id: Annotated[
        str | None,
        typer.Argument(metavar="[RELEASE]", help="Id, or its beginning.  [default: the one under way]"),
    ] = None,
    times: Annotated[int, typer.Option(min=1, help="Drills, one after the other.")] = 1,
    kind: Annotated[str, typer.Option(metavar="KIND", help=f"What happens: {KINDS}.")] = "rollback",
    streams: Annotated[int, typer.Option(min=1, max=2000, help="Answers of the candidate under way.")] = 200,
    replicas: Annotated[int, typer.Option(min=1, max=16, help="Gateways at once.")] = 1,
    drain_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Instead of gateway.drain_seconds.", show_default=False)
    ] = None,
    lease_seconds: Annotated[
        float | None, typer.Option(min=1, max=300, help="Instead of release.lease_seconds.", show_default=False)
    ] = None,
    who: As = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Drill the way back: gateways, users' streams, a candidate that hangs.

    Real processes on this machine and in the config's database server, in tables of their own: no user is touched. The
    result is kept with the release, whose canary asks for three. Exits with 3 where a limit was missed.
    """
    from datetime import UTC, datetime

    from agentrl.cli.exits import GATE_FAILED
    from agentrl.cli.release import find
    from agentrl.errors import ConfigError
    from agentrl.release.drill.drill import DrillRoom, Plan
    from agentrl.release.drill.kept import keep_drill
    from agentrl.release.drill.record import Kind
    from agentrl.runs.files import to_json

    if kind not in list(Kind):
        raise ConfigError(f"--kind: found '{kind}'; allowed: {KINDS}")
    loaded, place = opened(config, overrides)
    release = find(place, release_id)
    actor = who_says(who)
    given = {"drain_seconds": drain_seconds, "lease_seconds": lease_seconds}
    limits = {name: value for name, value in given.items() if value is not None}
    plan = Plan(Kind(kind), streams, replicas, limits)
    drills: list[Drill] = []
    with DrillRoom(loaded, plan) as room:
        for number in range(1, times + 1):
            each = room.run(release.id)
            keep_drill(place, each, actor=actor, now=datetime.now(UTC).timestamp())
            drills.append(each)
            if not as_json:
                print("\n".join(_lines(each, number, times)), flush=True)
    if as_json:
        print(to_json([each.to_record() for each in drills], indent=2))
    if any(each.problems for each in drills):
        raise typer.Exit(GATE_FAILED)


def _lines(drill: Drill, number: int, times: int) -> list[str]:
    """For people: what was there, how long each part took, what was missed."""
    of = f" {number} of {times}" if times > 1 else ""
    gateways = "1 gateway" if drill.replicas == 1 else f"{drill.replicas} gateways"
    rows: list[tuple[str, float | None, str]] = [
        ("detection", drill.detection_seconds, "from the violation to the decision"),
        ("routing", drill.routing_seconds, "from the decision to the candidate's last new session"),
        ("rollback", drill.rollback_seconds, "from the decision until the candidate was drained"),
        ("recovery", drill.recovery_seconds, "until all new sessions were answered whole again"),
    ]
    lines = [
        f"drill{of} of {drill.release_id}: {drill.kind}, {gateways} on {drill.database}, "
        f"{drill.in_flight} answers of a hanging candidate under way",
        *(f"  {name:<10}{_seconds(value):>9}  {meaning}" for name, value, meaning in rows),
        f"  answers    candidate {_counted(drill.streams)}; others {_counted(drill.others)}",
    ]
    lines += [f"  missed     {problem}" for problem in drill.problems]
    return lines


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _counted(endings: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(endings.items())) or "none"
