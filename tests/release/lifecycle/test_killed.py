"""F29: a process that is killed at any point of a step leaves all of it or nothing, without anybody's help."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agentrl.release.lifecycle import audit_log, ledger
from agentrl.release.lifecycle.audit_log import read_entries
from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.read import read_release
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.routing import read_routing
from agentrl.release.store import open_store
from tests.lifecycle_story import NOW, brought_to, rolled_back, step

S = ReleaseState
POINTS = {
    "before the line": False,
    "in the middle of the line": False,
    "after the line, before it is on disk": True,
    "after the line is on disk": True,
    "in the middle of the rows": True,
    "after the rows, before they are committed": True,
    "after the commit": True,
}
"""Whether the step must be there afterwards."""


def killed_at(point: str) -> None:
    """Make this process end at a point of its next step."""
    real_write, real_fsync, real_apply, real_set = os.write, os.fsync, ledger.apply, ledger.set_row

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if point == "before the line":
        os.write = die  # type: ignore[assignment]
    elif point == "in the middle of the line":

        def half(descriptor: int, data: memoryview) -> int:
            real_write(descriptor, data[: len(data) // 2])
            die()
            return 0

        os.write = half  # type: ignore[assignment]
    elif point == "after the line, before it is on disk":
        os.fsync = die
    elif point == "after the line is on disk":

        def synced(descriptor: int) -> None:
            real_fsync(descriptor)
            die()

        os.fsync = synced
    elif point == "in the middle of the rows":
        rows = []

        def second(*arguments: object) -> None:
            rows.append(arguments)
            if len(rows) == 2:
                die()
            real_set(*arguments)  # type: ignore[arg-type]

        ledger.set_row = second  # type: ignore[assignment]
    elif point == "after the rows, before they are committed":
        ledger._set_routing = die  # type: ignore[assignment]
    else:

        def applied(*arguments: object) -> None:
            real_apply(*arguments)  # type: ignore[arg-type]
            die()

        ledger.apply = applied  # type: ignore[assignment]


def in_a_process_that_dies(folder: Path, url: str, point: str, act: Callable[[ReleasePlace], object]) -> None:
    """Fork, act, and be killed."""
    pid = os.fork()
    if pid == 0:
        try:
            place = ReleasePlace("support", folder, open_store(url))
            killed_at(point)
            act(place)
        finally:
            os._exit(3)  # it was not killed
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"{point} was never reached"


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("act", ["promote", "roll back"])
def test_a_killed_step_is_whole_or_not_there(store_url: str, tmp_path: Path, point: str, act: str) -> None:
    folder = tmp_path / "releases"
    folder.mkdir()
    place = ReleasePlace("support", folder, open_store(store_url))
    release = brought_to(place, S.CANARY)
    place.store.close()  # a connection is not shared with a child

    def take(inside: ReleasePlace) -> object:
        if act == "promote":
            return step(inside, release, S.GENERAL, now=NOW + 9)
        return rolled_back(inside, release, now=NOW + 9)

    in_a_process_that_dies(folder, store_url, point, take)
    place = ReleasePlace("support", folder, open_store(store_url))
    with ledger.ledger(place):
        pass
    found = read_release(place, release.id)
    is_there = POINTS[point]
    expected = (S.GENERAL if act == "promote" else S.ROLLED_BACK) if is_there else S.CANARY
    assert found.state is expected
    assert found.version == release.version + is_there
    assert len(read_entries(place.audit_log)) == 4 + is_there
    routing = read_routing(place.store, "support")
    assert routing is not None
    assert routing.epoch == 2 + is_there
    # and it can be done again, or on: once
    done = rolled_back(place, found, now=NOW + 20)
    assert done.state is S.ROLLED_BACK
    assert len(read_incidents(place)) == 1
    assert read_entries(place.audit_log)
    place.store.close()
    assert audit_log.torn_tail(place.audit_log) == b""
