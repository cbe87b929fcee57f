"""Item by item: what became of each, in how many the reward rose or fell, and whether that could be chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from agentrl.evaluation.compare import TOLERANCE
from agentrl.evaluation.comparison.measures import is_success
from agentrl.evaluation.comparison.pairs import Pairs
from agentrl.evaluation.comparison.significance import binomial_p_value
from agentrl.evaluation.intervals import Interval, wilson
from agentrl.types import Rollout


@dataclass(frozen=True)
class ItemChange:
    """One item under both policies: means over its valid episodes, [A, B]."""

    task_id: str
    quadrant: str
    reward: tuple[float, float]
    success_rate: tuple[float, float]
    tool_calls: tuple[float, float]
    output_tokens: tuple[float, float]
    latency_seconds: tuple[float, float]
    samples: tuple[int, int]
    rollouts: tuple[Rollout, Rollout] = field(repr=False)
    """One episode of each, which show the change best."""

    @property
    def reward_change(self) -> float:
        return self.reward[1] - self.reward[0]

    @property
    def calls_change(self) -> float:
        return self.tool_calls[1] - self.tool_calls[0]


@dataclass(frozen=True)
class Wins:
    """Items by whether B's mean reward is above A's."""

    win: int
    tie: int
    loss: int
    p_value: float
    """Sign test, exact: of as many wins as losses."""


@dataclass(frozen=True)
class McNemar:
    """Exact, for one sample an item: success of B against success of A."""

    gained: int
    """Items that only B solves."""
    lost: int
    """Items that only A solves."""
    p_value: float | None
    """None where it does not apply."""
    why_not: str = ""


@dataclass(frozen=True)
class Share:
    """Items of a kind."""

    count: int
    share: float
    interval: Interval
    """95 %, Wilson."""


def item_changes(pairs: Pairs) -> tuple[ItemChange, ...]:
    """In order of task ids."""
    values = [
        pairs.item_means(value)
        for value in (
            lambda rollout: rollout.grade.score,
            lambda rollout: is_success(rollout, pairs.pass_threshold),
            lambda rollout: len(rollout.tool_calls),
            lambda rollout: rollout.output_tokens,
            lambda rollout: rollout.seconds,
        )
    ]
    found = []
    for index, task_id in enumerate(pairs.task_ids):
        reward, success, calls, tokens, seconds = ((float(each[index, 0]), float(each[index, 1])) for each in values)
        groups = pairs.voting[0][task_id], pairs.voting[1][task_id]
        found.append(
            ItemChange(
                task_id=task_id,
                quadrant=f"{_sign(reward, ('worse', 'equal', 'better'))}_{_sign(calls, ('fewer', 'equal', 'more'))}",
                reward=reward,
                success_rate=success,
                tool_calls=calls,
                output_tokens=tokens,
                latency_seconds=seconds,
                samples=(len(groups[0]), len(groups[1])),
                rollouts=_telling(groups, reward[1] - reward[0], calls[1] - calls[0]),
            )
        )
    return tuple(found)


def _sign(sides: tuple[float, float], words: tuple[str, str, str]) -> str:
    change = sides[1] - sides[0]
    return words[0] if change < -TOLERANCE else words[2] if change > TOLERANCE else words[1]


def _telling(
    groups: tuple[tuple[Rollout, ...], tuple[Rollout, ...]], reward_change: float, calls_change: float
) -> tuple[Rollout, Rollout]:
    """The two episodes that differ most in the direction that the means went; of one sample index if they can be."""
    direction = 0.0 if abs(reward_change) < TOLERANCE else 1.0 if reward_change > 0 else -1.0
    of_calls = 1.0 if calls_change > 0 else -1.0

    def key(both: tuple[Rollout, Rollout]) -> tuple[float, float, bool, int, int]:
        before, after = both
        gain = (after.grade.score or 0.0) - (before.grade.score or 0.0)
        calls = len(after.tool_calls) - len(before.tool_calls)
        return (
            -direction * gain if direction else abs(gain),
            -of_calls * calls,
            before.sample_index != after.sample_index,
            before.sample_index,
            after.sample_index,
        )

    return min(((before, after) for before in groups[0] for after in groups[1]), key=key)


def most_changed(items: tuple[ItemChange, ...], k: int) -> tuple[ItemChange, ...]:
    """Rises and falls of the reward by turns, the largest first; then those of equal reward by calls."""
    ordered = sorted(items, key=lambda item: (-abs(item.reward_change), -abs(item.calls_change), item.task_id))
    falls = [item for item in ordered if item.reward_change < -TOLERANCE]
    rises = [item for item in ordered if item.reward_change > TOLERANCE]
    level = [item for item in ordered if abs(item.reward_change) <= TOLERANCE and abs(item.calls_change) > TOLERANCE]
    chosen: list[ItemChange] = []
    while len(chosen) < k and (falls or rises):
        chosen += [side.pop(0) for side in (rises, falls) if side]
    return tuple([*chosen, *level][:k])


def wins(items: tuple[ItemChange, ...]) -> Wins:
    """Count the items."""
    counts = Counter(item.quadrant.partition("_")[0] for item in items)
    win, loss = counts["better"], counts["worse"]
    return Wins(win, counts["equal"], loss, binomial_p_value(win, loss))


def mcnemar(items: tuple[ItemChange, ...]) -> McNemar:
    """The exact test, or why it does not apply."""
    gained = sum(item.success_rate == (0.0, 1.0) for item in items)
    lost = sum(item.success_rate == (1.0, 0.0) for item in items)
    if (most := max(max(item.samples) for item in items)) > 1:
        why_not = f"items have up to {most} samples, and the test is for one: see the interval of success_rate"
        return McNemar(gained, lost, None, why_not)
    return McNemar(gained, lost, binomial_p_value(gained, lost))


def shares(counts: dict[str, int], n_items: int) -> dict[str, Share]:
    """Counts of items with their intervals."""
    return {name: Share(count, count / n_items, wilson(count, n_items)) for name, count in counts.items()}
