"""Turns gone on from with and without a part: new episodes, paired by the seed that both draw from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from agentrl.evaluation.ablation.cuts import Cut, Part
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.turns import derive_seed
from agentrl.types import Rollout


@dataclass(frozen=True)
class Trial:
    """One part of one turn. Sample i of both arms draws the same numbers from the same turn on."""

    cut: Cut
    part: Part
    controls: tuple[Rollout, ...] = field(repr=False)
    """[samples] With the part. Sampled anew as well: what was recorded was chosen after its reward was known."""
    ablated: tuple[Rollout, ...] = field(repr=False)
    """[samples] Without it."""

    @property
    def pairs(self) -> list[tuple[Rollout, Rollout]]:
        """(control, ablated) where both have a grade."""
        both = zip(self.controls, self.ablated, strict=True)
        return [(control, ablated) for control, ablated in both if control.is_valid and ablated.is_valid]


def choose(
    rollouts: Iterable[Rollout], cuts_of: Callable[[Rollout], list[Cut]], *, items: int, turns: int, seed: int
) -> list[Cut]:
    """At most `turns` turns of one episode of each of at most `items` items, all by chance.

    Whatever the episode earned: turns of the good ones alone would look more useful than they are.
    """
    by_item: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.is_valid:
            by_item.setdefault(rollout.task.id, []).append(rollout)
    draw = random.Random(f"{seed}/ablate")
    names = draw.sample(sorted(by_item), len(by_item))
    found = (_of_item(by_item[name], cuts_of, turns, draw) for name in names)
    return [cut for cuts in islice(filter(None, found), items) for cut in cuts]


def _of_item(
    rollouts: Sequence[Rollout], cuts_of: Callable[[Rollout], list[Cut]], turns: int, draw: random.Random
) -> list[Cut]:
    for rollout in draw.sample(rollouts, len(rollouts)):
        if cuts := cuts_of(rollout):
            return sorted(draw.sample(cuts, min(turns, len(cuts))), key=lambda cut: cut.index)
    return []


def episodes(cuts: Sequence[Cut], samples: int) -> int:
    """How many new episodes the trials of these turns take: a control and one for each part, `samples` times."""
    return samples * sum(1 + len(cut.without) for cut in cuts)


async def run_trials(
    engine: RolloutEngine,
    cuts: Sequence[Cut],
    *,
    samples: int,
    seed: int,
    replays: bool = False,
    on_done: Callable[[Rollout], None] | None = None,
) -> list[Trial]:
    """Go on from every turn, whole and without each of its parts, `samples` times.

    Args:
        replays: see `RolloutEngine.continue_from`.
    """
    arms = [(cut, part) for cut in cuts for part in (None, *cut.without)]

    def drawn(cut: Cut, sample: int) -> int:
        return derive_seed(seed, cut.rollout.task.id, cut.rollout.sample_index, cut.index, sample)

    beginnings = [cut.beginning(part, sample_index=i, seed=drawn(cut, i)) for cut, part in arms for i in range(samples)]
    done = iter(await engine.continue_from(beginnings, replays=replays, on_done=on_done))
    trials: list[Trial] = []
    controls: tuple[Rollout, ...] = ()
    for cut, part in arms:
        rollouts = tuple(islice(done, samples))
        if part is None:
            controls = rollouts
        else:
            trials.append(Trial(cut, part, controls, rollouts))
    return trials
