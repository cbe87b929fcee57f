"""The lease: whatever polls, outages, restarts and clocks do, nobody is given to a candidate after it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from agentrl.errors import ReleaseError
from agentrl.gateway.arms import choose_arm
from agentrl.gateway.lease import Lease
from agentrl.gateway.poll import RoutingPoll
from agentrl.release.records import Arm, Routing

LEASE_SECONDS = 30.0
ROW = Routing(
    workflow="support",
    epoch=1,
    general_upstream="base",
    general_bundle="",
    release_id="r1",
    channel="canary",
    candidate_upstream="candidate",
    candidate_bundle="",
    share_percent=100.0,
    salt="pepper",
    lease_renewal=7,
    lease_seconds=LEASE_SECONDS,
)


@dataclass
class Replica:
    """A poll whose clock and store are set by hand."""

    row: Routing = ROW
    now: float = 1000.0
    reading_seconds: float = 0.0
    is_out: bool = False
    last_new: float | None = None
    """Beginning of the look that first saw the latest renewal, after this replica's start."""
    known: int | None = None
    poll: RoutingPoll = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.poll = RoutingPoll(
            self._read,
            general="base",
            bundles={"base": "", "candidate": ""},
            poll_seconds=0.2,
            clock=lambda: self.now,
        )
        self.last_new, self.known = None, None

    def _read(self) -> Routing:
        self.now += self.reading_seconds
        if self.is_out:
            raise ReleaseError("no database")
        return self.row

    def look(self) -> None:
        began = self.now
        self.poll.look()
        if self.is_out:
            return
        if self.known is not None and self.row.lease_renewal > self.known:
            self.last_new = began
        self.known = self.row.lease_renewal

    @property
    def arm(self) -> Arm:
        return choose_arm(self.poll.served, "a session", self.now)


steps = st.lists(
    st.one_of(
        st.just(("look", 0.0)),
        st.just(("renew", 0.0)),
        st.just(("restart", 0.0)),
        st.just(("outage", 0.0)),
        st.just(("back", 0.0)),
        st.tuples(st.just("wait"), st.floats(0.0, 2 * LEASE_SECONDS)),
        st.tuples(st.just("slow"), st.floats(0.0, LEASE_SECONDS)),
        st.tuples(st.just("clock_back"), st.floats(0.0, 3600.0)),
    ),
    max_size=40,
)


@given(steps)
def test_no_candidate_is_given_out_later_than_the_lease(sequence: list[tuple[str, float]]) -> None:
    """F48, F37"""
    replica = Replica()
    for name, seconds in sequence:
        if name == "look":
            replica.look()
        elif name == "renew":
            replica.row = replace(replica.row, lease_renewal=replica.row.lease_renewal + 1)
        elif name == "restart":
            replica.restart()
        elif name in ("outage", "back"):
            replica.is_out = name == "outage"
        elif name == "wait":
            replica.now += seconds
        elif name == "clock_back":
            replica.now -= seconds
        else:
            replica.reading_seconds = seconds
        if replica.arm is Arm.CANDIDATE:
            assert replica.last_new is not None
            assert replica.now - replica.last_new < LEASE_SECONDS


def test_a_renewal_gives_exactly_the_lease() -> None:
    replica = Replica()
    replica.look()
    assert replica.arm is Arm.BASELINE  # the first number may be as old as the row
    replica.row = replace(replica.row, lease_renewal=8)
    replica.look()
    replica.now = 1000.0 + LEASE_SECONDS - 0.001
    assert replica.arm is Arm.CANDIDATE
    replica.now = 1000.0 + LEASE_SECONDS
    assert replica.arm is Arm.BASELINE


def test_a_slow_read_makes_no_lease_longer() -> None:
    replica = Replica()
    replica.look()
    replica.row, replica.reading_seconds = replace(replica.row, lease_renewal=8), 25.0
    replica.look()
    replica.now = 1000.0 + LEASE_SECONDS
    assert replica.arm is Arm.BASELINE


def test_a_renewal_of_one_release_says_nothing_of_the_next() -> None:
    lease = Lease().after(ROW, 0.0).after(replace(ROW, lease_renewal=8), 1.0)
    assert lease.holds(2.0)
    assert not lease.after(replace(ROW, lease_renewal=8, release_id="r2"), 2.0).holds(2.5)


def test_another_share_of_the_same_release_keeps_the_lease() -> None:
    lease = Lease().after(ROW, 0.0).after(replace(ROW, lease_renewal=8), 1.0)
    assert lease.after(replace(ROW, lease_renewal=8, share_percent=10.0, epoch=2), 2.0).holds(2.5)


def test_a_number_that_went_back_is_no_renewal() -> None:
    """A database from a backup."""
    lease = Lease().after(ROW, 0.0).after(replace(ROW, lease_renewal=8), 1.0).after(replace(ROW, lease_renewal=3), 2.0)
    assert not lease.holds(2.0)
    assert lease.after(replace(ROW, lease_renewal=4), 3.0).holds(3.0)
