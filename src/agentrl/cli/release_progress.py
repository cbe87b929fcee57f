"""What `agentrl release` prints while it waits: a rollback that drains, a controller at work."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentrl.printable import printable_lines

if TYPE_CHECKING:
    from agentrl.release.place import ReleasePlace
    from agentrl.release.records import Release

LOOK_SECONDS = 0.2


def wait_until_drained(place: ReleasePlace, release: Release, *, is_quiet: bool) -> dict[str, Any] | None:
    """Tell how far a rollback is until every gateway has let the candidate go; returns its incident, if it has one."""
    from agentrl.release.lifecycle.drain import clocks_of, complete_rollbacks, read_drain
    from agentrl.release.lifecycle.incidents import read_incidents

    said = ""
    while True:
        now = time.time()
        complete_rollbacks(place, now=now)
        incident = next((each for each in read_incidents(place) if each["release_id"] == release.id), None)
        if incident is None or incident["record"]["t_drained"] is not None:
            break
        record = incident["record"]
        lease = float(release.config["release"]["lease_seconds"])
        drain = read_drain(place, epoch=record["epoch"], t_decision=record["t_decision"], lease_seconds=lease, now=now)
        line = f"{len(drain.waiting)} of {drain.replicas} gateways left, {drain.in_flight} answers under way"
        if line != said and not is_quiet:
            print(f"  {now - record['t_decision']:6.1f} s  {line}", file=sys.stderr, flush=True)
            said = line
        time.sleep(LOOK_SECONDS)
    if incident is not None and not is_quiet:
        clocks = clocks_of(incident["record"])
        told = {name.removesuffix("_seconds"): at for name, at in clocks.items() if at is not None}
        print(f"{incident['id']}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in told.items()))
        print(f"  {incident['record']['sessions_affected']} sessions had talked to the candidate")
    return incident


def watch_until_interrupted(place: ReleasePlace, every: float) -> None:
    """Tick after tick; a line for whatever happens."""
    from agentrl.monitoring.redaction import redact_logs
    from agentrl.release.lifecycle.controller import Controller
    from agentrl.release.lifecycle.watching import watching

    def tell(text: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {printable_lines(text)}", flush=True)

    redact_logs()
    with watching(place):
        controller = Controller(place, tell=tell)
        tell(f"watching {place.workflow}; Ctrl-C ends it, and with it, within the lease, a canary's traffic")
        while True:
            began = time.monotonic()
            controller.tick()
            time.sleep(max(0.0, every - (time.monotonic() - began)))
