"""Which tasks a training step gets: a function of the seed and the step, so resuming needs no state."""

from __future__ import annotations

import random
from collections.abc import Sequence

from agentrl.types import Task


class TaskOrder:
    """Endless epochs over the tasks, each in an order of its own.

    A batch holds no task twice, unless it is larger than the set: rollouts of one task form a group, and a second
    group would mix with it. So an epoch ends when no whole batch is left; the few tasks left over, other ones in
    each epoch, wait.
    """

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        if not tasks:
            raise ValueError("a task order needs tasks")
        self._tasks = tuple(tasks)
        self._seed = seed

    def batch(self, step: int, size: int) -> list[Task]:
        """The tasks of step 0, 1, 2, ...; equal for equal (tasks, seed, step, size).

        Raises:
            ValueError: a negative step, or a size below 1.
        """
        if step < 0 or size < 1:
            raise ValueError(f"found step {step} and size {size}; allowed: step >= 0 and size >= 1")
        count = len(self._tasks)
        if size > count:
            epochs = -(-size // count)  # as many whole passes as fill the batch, the last one cut
            order = [index for epoch in range(epochs) for index in self._order(step * epochs + epoch)]
            return [self._tasks[index] for index in order[:size]]
        epoch, start = divmod(step, count // size)
        return [self._tasks[index] for index in self._order(epoch)[start * size : (start + 1) * size]]

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self._tasks)))
        random.Random(f"{self._seed}/{epoch}").shuffle(order)  # text seeds are hashed: near ones give unlike orders
        return order
