"""Weeks of money in the store: rates change, what a week came to stays, and others can read it without the config."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from agentrl.release.budget.loaded import WeekBudget
from agentrl.release.review.weeks import WeekFigures
from agentrl.release.store import Store
from agentrl.release.store.tables import budgets


def keep_budget(store: Store, budget: WeekBudget, figures: WeekFigures, *, at: float) -> None:
    """Keep a week, in the place of what was kept of it.

    Args:
        figures: of the same week; briefs draw the reliability score over weeks from them.
        at: now, in seconds since 1970.

    Raises:
        ReleaseError: the store cannot be written.
    """
    record = {**budget.to_record(), "figures": figures.to_record()}
    row: dict[str, Any] = {"workflow": budget.workflow, "week": budget.week, "at": at, "record": record}
    statement = store.insert(budgets).values(**row)
    with store.write() as connection:
        changed = {"at": at, "record": record}
        connection.execute(statement.on_conflict_do_update(index_elements=["workflow", "week"], set_=changed))


def read_budgets(store: Store, workflow: str) -> list[dict[str, Any]]:
    """Records of the weeks that were kept, oldest first.

    Raises:
        ReleaseError: the store cannot be read.
    """
    wanted = select(budgets.c.record).where(budgets.c.workflow == workflow).order_by(budgets.c.week)
    with store.read() as connection:
        return [dict(record) for record in connection.execute(wanted).scalars()]
