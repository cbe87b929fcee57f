"""Roll out a policy over a split and summarise it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentrl.evaluation.metrics import EvalReport, evaluate_rollouts
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.outage import OutageGuard
from agentrl.types import Rollout, Task


async def evaluate(
    engine: RolloutEngine | OutageGuard,
    tasks: Sequence[Task],
    *,
    samples_per_item: int,
    pass_threshold: float,
    name: str = "",
    seed: object = 0,
    on_done: Callable[[Rollout], None] | None = None,
) -> tuple[EvalReport, list[Rollout]]:
    """Every task `samples_per_item` times, at the training temperature; the report and the rollouts behind it.

    Hold-out graders, where there are any, score each rollout beside the grader.

    The same seed gives baseline and candidate the same random numbers, which makes their comparison sharper.
    """
    rollouts = await engine.run(tasks, samples_per_task=samples_per_item, seed=seed, on_done=on_done, is_watched=True)
    report = evaluate_rollouts(rollouts, pass_threshold=pass_threshold, name=name, tools=engine.tools)
    return report, rollouts
