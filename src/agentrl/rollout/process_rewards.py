"""Rewards for the way to the answer: potentials, which leave the best policy the best, and scores of single turns.

A signal is a number from 0 to 1 that is read from a rollout as it stood after some of its turns. It sees neither what
came later nor the grade, so it says something of a state, as potential-based shaping demands (Ng et al. 1999).
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentrl.config import PotentialConfig, ProcessRewardsConfig, TurnScoreConfig
from agentrl.config.functions import load_function, working_directory_importable
from agentrl.errors import ConfigError
from agentrl.rollout import facts
from agentrl.types import Grade, Rollout, StopReason

Read = Callable[[Rollout], float]
"""A number from 0 to 1 of a rollout that is cut short."""


@dataclass(frozen=True)
class Signal:
    """One potential, or one kind of turn score."""

    name: str
    weight: float
    is_potential: bool
    read: Read | None
    """None takes the grader's turn scores."""
    digest: str
    """sha256 of what it measures, the weight left out: a report is about this."""

    def values(self, rollout: Rollout) -> list[float]:
        """[turns] Of a potential Phi(s_k), the state before turn k; else the score of turn k.

        Raises:
            ConfigError: a function raised, or gave no number from 0 to 1.
        """
        turns = range(len(rollout.turns))
        if self.read is None:
            if len(rollout.grade.turn_scores) != len(rollout.turns):
                found = f"{len(rollout.grade.turn_scores)} turn_scores of {len(rollout.turns)} turns"
                where = f"ppo.process_rewards: {self.name}: rollout {rollout.id}"
                raise ConfigError(f"{where}: found {found}; grading.turn_scores: true asks the grader for them")
            return list(rollout.grade.turn_scores)
        return [self._checked(after(rollout, k if self.is_potential else k + 1)) for k in turns]

    def rewards(self, rollout: Rollout, gamma: float) -> list[float]:
        """[turns] What each turn earns by it."""
        values = self.values(rollout)
        earned = shaping(values, gamma) if self.is_potential else [value / len(values) for value in values]
        return [self.weight * each for each in earned]

    def summary(self, rollout: Rollout) -> float:
        """What it says of a whole rollout: a potential where the policy acted last, or the mean of the scores."""
        values = self.values(rollout)
        return values[-1] if self.is_potential else sum(values) / len(values)

    def _checked(self, rollout: Rollout) -> float:
        assert self.read is not None
        where = f"ppo.process_rewards: {self.name}"
        try:
            with working_directory_importable():
                value = self.read(rollout)
        except Exception as error:  # a user's function may raise anything
            raise ConfigError(f"{where}: it raised {type(error).__name__}: {error} (rollout {rollout.id})") from error
        if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
            raise ConfigError(f"{where}: found {value!r:.80} of rollout {rollout.id}; allowed: a number from 0 to 1")
        return float(value)


def shaping(potentials: Sequence[float], gamma: float) -> list[float]:
    """[turns] F_k = gamma * Phi(s_{k+1}) - Phi(s_k) of Phi(s_0) ... Phi(s_{n-1}); Phi of the end is 0.

    Discounted, they sum to -Phi(s_0) whatever the policy did: which policy is best does not change.
    """
    return [gamma * later - now for now, later in zip(potentials, [*potentials[1:], 0.0], strict=True)]


def after(rollout: Rollout, n_turns: int) -> Rollout:
    """The rollout as it stood after `n_turns` turns and what they were answered; how it ended is not known yet."""
    return replace(
        rollout,
        turns=rollout.turns[:n_turns],
        stop_reason=StopReason.TURN_LIMIT,
        answer="",
        seconds=0.0,
        grade=Grade(None, "not graded yet"),
        error="",
        cost_usd=0.0,
    )


def build_signals(config: ProcessRewardsConfig, grader: str) -> list[Signal]:
    """The signals of a config, potentials first.

    Args:
        grader: `grading.name`: turn scores without a function are of this grader.

    Raises:
        ConfigError: a function cannot be loaded.
    """
    potentials = [
        _signal(f"potentials[{index}]", potential, _fact(potential), None, is_potential=True)
        for index, potential in enumerate(config.potentials)
    ]
    scores = [
        _signal(f"turn_scores[{index}]", score, None, grader, is_potential=False)
        for index, score in enumerate(config.turn_scores)
    ]
    return [*potentials, *scores]


def _signal(
    key: str, config: PotentialConfig | TurnScoreConfig, read: Read | None, grader: str | None, *, is_potential: bool
) -> Signal:
    meaning: dict[str, object] = config.model_dump(exclude={"name", "weight"}) | {"is_potential": is_potential}
    if config.function is not None:
        with working_directory_importable():
            read = load_function(f"ppo.process_rewards.{key}.function", config.function)
        # the file and not the function alone: what it calls is mostly beside it
        source = sys.modules[config.function.partition(":")[0]].__file__
        meaning["source"] = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    elif not is_potential:
        meaning["grader"] = grader
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
    return Signal(config.name, config.weight, is_potential, read, f"sha256:{digest}")


def _fact(config: PotentialConfig) -> Read | None:
    """The declared fact; None where a function is given."""
    if config.tool_called is not None:
        return facts.tool_called(config.tool_called)
    if config.tool_called_before is not None:
        return facts.tool_called_before(*config.tool_called_before)
    return facts.no_malformed_calls if config.no_malformed_calls else None
