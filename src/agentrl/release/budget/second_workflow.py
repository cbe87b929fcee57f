"""A second workflow waits until the first is stable for a week and pays: what one team can watch is the limit.

`release start` asks here. The first workflow's money is read from the weeks that `agentrl budget CONFIG --keep` kept:
the config of the second says nothing of it.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from agentrl.errors import ReleaseError
from agentrl.release.review.weeks import week_bounds, week_of
from agentrl.release.store import Store
from agentrl.release.store.tables import budgets, incidents, releases, verdicts, workflows

STABLE_SECONDS = 7 * 86400.0
HAS_SERVED = ("shadow", "canary", "general", "rolled_back", "superseded")
"""States of a release whose workflow has users; one that never left the evaluation holds nobody up."""


def check_second_workflow(store: Store, workflow: str, *, now: float) -> None:
    """Let a release of `workflow` start, where every workflow that was there before it is stable and pays.

    Args:
        now: seconds since 1970.

    Raises:
        ReleaseError: one is not; the message says which, and what is missing.
    """
    problems = second_workflow_problems(store, workflow, now=now)
    if problems:
        listed = "\n  ".join(problems)
        raise ReleaseError(
            f"{workflow}: a further workflow starts once those before it are stable and pay:\n  {listed}"
        )


def second_workflow_problems(store: Store, workflow: str, *, now: float) -> tuple[str, ...]:
    """Why a release of `workflow` may not start yet; empty where it may, as of a workflow that has begun before.

    Raises:
        ReleaseError: the store cannot be read.
    """
    with store.read() as connection:
        begun = connection.execute(
            select(releases.c.workflow, func.min(releases.c.created_at).label("at"))
            .where(releases.c.state.in_(HAS_SERVED))
            .group_by(releases.c.workflow)
        ).all()
        first = {row.workflow: row.at for row in begun}
        if workflow in first:  # it was let in
            return ()
        found: list[str] = []
        for name, _ in sorted(first.items(), key=lambda item: (item[1], item[0])):
            reasons = (*unstable_because(connection, name, now=now), *_unpaid_because(connection, name, now=now))
            found += [f"{name}: {reason}" for reason in reasons]
    return tuple(found)


def unstable_because(connection: Connection, workflow: str, *, now: float) -> list[str]:
    """What keeps a workflow from having been stable for a week; empty where it has been."""
    since, found = now - STABLE_SECONDS, []
    of_it = select(releases.c.id).where(releases.c.workflow == workflow)
    row = connection.execute(select(workflows).where(workflows.c.name == workflow)).mappings().one_or_none()
    if row is not None and row["halted_at"] is not None:
        found.append("is halted")
    general = connection.execute(
        select(func.max(releases.c.changed_at)).where(releases.c.workflow == workflow, releases.c.state == "general")
    ).scalar()
    if general is None:
        found.append("has no release in general")
    elif general > since:
        found.append(f"its release is general for {(now - general) / 86400:.1f} days; it takes 7")
    at = incidents.c.opened_at
    recent = select(func.count()).select_from(incidents).where(incidents.c.workflow == workflow)
    if count := connection.execute(recent.where(at > since)).scalar():
        found.append(f"{count} incident{'s' * (count != 1)} in the last 7 days")
    if count := connection.execute(recent.where(at <= since, incidents.c.closed_at.is_(None))).scalar():
        found.append(f"{count} older incident{'s' * (count != 1)} not closed")
    failed = select(func.count(verdicts.c.gate.distinct())).where(
        verdicts.c.release_id.in_(of_it), verdicts.c.verdict == "fail", verdicts.c.at > since
    )
    if count := connection.execute(failed).scalar():
        found.append(f"{count} gate{'s' * (count != 1)} failed in the last 7 days")
    return found


def _unpaid_because(connection: Connection, workflow: str, *, now: float) -> list[str]:
    last_week = week_of(now - STABLE_SECONDS)
    record = connection.execute(
        select(budgets.c.record).where(budgets.c.workflow == workflow).order_by(budgets.c.week.desc()).limit(1)
    ).scalar()
    keep = "`agentrl budget CONFIG --keep` keeps it"
    if record is None:
        return [f"whether it pays is not known; {keep}"]
    if week_bounds(record["week"])[0] < week_bounds(last_week)[0]:
        return [f"its money was last kept for {record['week']}; {last_week} or later is asked, and {keep}"]
    if record["pays"] is not True:
        return [f"does not pay in {record['week']}: {record['why']}" if record["pays"] is False else record["why"]]
    return []
