"""Many answers through one grader, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agentrl.grading.run_grader import RunGrader
from agentrl.grading.submission import Submission
from agentrl.types import Grade


async def grade_many(
    grader: RunGrader,
    submissions: Sequence[Submission],
    *,
    at_once: int,
    on_done: Callable[[int], None] | None = None,
) -> list[Grade]:
    """The grade of each, in their order.

    Args:
        at_once: how many are with the grader at any time; an endpoint's own `max_concurrency` holds besides.
        on_done: told after each how many are done.
    """
    grades: list[Grade | None] = [None] * len(submissions)
    waiting = iter(range(len(submissions)))  # shared: each worker takes the next
    done = 0

    async def work() -> None:
        nonlocal done
        for index in waiting:
            grades[index] = await grader.grade_submission(submissions[index])
            done += 1
            if on_done is not None:
                on_done(done)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(at_once, len(submissions))):
            workers.create_task(work())
    return [grade for grade in grades if grade is not None]
