"""What an update saw, token by token, as plain numbers: for people who read the episodes later."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.ppo.experience import Experience
from agentrl.runs.token_facts import DIGITS, Numbers, TokenFacts
from agentrl.types import Trajectory


def token_facts(trajectories: Sequence[Trajectory], experience: Experience, config: PPOConfig) -> Iterator[TokenFacts]:
    """The facts of every trajectory, one after the other.

    Args:
        trajectories: [B] those of the experience, in the order of its rows.
    """
    mask, is_trusted = experience.batch.action_mask.cpu(), experience.is_trusted.tolist()
    seen = (experience.advantages, experience.values, experience.old_logprobs, experience.ref_logprobs)
    advantages, values, old, ref = (each.float().cpu() for each in seen)
    for row, trajectory in enumerate(trajectories):

        def by_turn(of: Tensor, row: int = row, trajectory: Trajectory = trajectory) -> Numbers:
            return _by_turn(of[row][mask[row]], trajectory)

        yield TokenFacts(
            rollout_id=trajectory.rollout_id,
            advantages=by_turn(advantages),
            values=by_turn(values) if config.has_critic else None,
            logprobs=by_turn(old),
            ref_logprobs=by_turn(ref),
            is_trusted=is_trusted[row],
        )


def _by_turn(values: Tensor, trajectory: Trajectory) -> Numbers:
    """The values of all action tokens, cut into those of each turn and rounded."""
    sizes = Counter(trajectory.turn_ids)
    rounded = (float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values.tolist())
    return tuple(tuple(islice(rounded, sizes[turn])) for turn in range(max(sizes) + 1))
