"""The first turns of an episode, kept token by token, for engines to go on from."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentrl.types import Task, Turn


@dataclass(frozen=True)
class Beginning:
    """An episode up to where the policy speaks next."""

    task: Task
    prompt_ids: tuple[int, ...] = field(repr=False)
    turns: tuple[Turn, ...] = field(repr=False)
    """Each was answered: the last one's observation ends where the policy is to speak."""
    sample_index: int
    seed: int
    """Of what comes: turn i draws from `derive_seed(seed, i)`, as in an episode that was not begun."""
