"""Dynamic sampling: tasks whose samples all scored the same make room for others (DAPO, arXiv:2503.14476).

A group without a spread of scores has no advantage in a critic-free update. Which tasks come in its place depends on
the seed, the step and the rollouts alone, so a resumed run draws the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

from agentrl.config import DynamicSamplingConfig
from agentrl.types import Rollout, Task

RollOut = Callable[[list[Task], int], Awaitable[list[Rollout]]]
"""(tasks, round) -> all their samples."""


async def top_up(
    drawn: list[Rollout],
    roll_out: RollOut,
    *,
    tasks: Sequence[Task],
    config: DynamicSamplingConfig | None,
    seed: str,
) -> tuple[list[Rollout], dict[str, float]]:
    """A step's rollouts with as many informative groups as `max_rounds` more tries give, and what it took.

    The number of groups stays. Where nothing better was found, the first draw stays too: it costs no more, and a
    critic still learns from it.

    Args:
        drawn: what the step's own tasks gave.
        tasks: where others come from; none is drawn twice in a step.
        config: None returns what was drawn.
        seed: of the step.
    """
    if config is None:
        return drawn, {}
    groups = _groups(drawn)
    waiting = [task_id for task_id, group in groups.items() if is_uniform(group)]
    used, n_replaced, n_extra, n_rounds = set(groups), 0, 0, 0
    for number in range(1, config.max_rounds + 1):
        unused = [task for task in tasks if task.id not in used]
        if not waiting or not unused:
            break
        draw = random.Random(f"{seed}/{number}")  # text seeds are hashed: near ones give unlike draws
        chosen = draw.sample(unused, min(len(waiting), len(unused)))
        used |= {task.id for task in chosen}
        extra = await roll_out(chosen, number)
        n_extra, n_rounds = n_extra + len(extra), number
        for found in _groups(extra).values():
            if not is_uniform(found):
                groups[waiting.pop(0)] = found  # under the old task's key: its place in the batch
                n_replaced += 1
    metrics = {"resampled_groups": n_replaced, "resampling_rounds": n_rounds, "resampling_rollouts": n_extra}
    rollouts = [rollout for group in groups.values() for rollout in group]
    return rollouts, {name: float(value) for name, value in metrics.items()}


def is_uniform(group: Sequence[Rollout]) -> bool:
    """Whether all samples that have a grade have the same; penalties do not make a difference worth learning."""
    return len({rollout.grade.score for rollout in group if rollout.is_valid}) < 2


def _groups(rollouts: Sequence[Rollout]) -> dict[str, list[Rollout]]:
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.task.id, []).append(rollout)
    return groups
