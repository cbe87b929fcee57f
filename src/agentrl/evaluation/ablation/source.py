"""The episodes that turns are taken from, and the policy that sampled them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.evaluation.contender import BASELINE, PolicySource
from agentrl.evaluation.run_evaluations import AT, find_evaluation
from agentrl.runs.sound_traces import sound_rollout
from agentrl.runs.trace_files import read_traces
from agentrl.types import Rollout


@dataclass(frozen=True)
class Recorded:
    """Recorded episodes."""

    name: str
    rollouts: tuple[Rollout, ...] = field(repr=False)
    policy: PolicySource | None = None
    """Who sampled them, where that is known and can be loaded."""
    digest: str = ""
    """Of the weights that sampled them; empty where it is not recorded."""

    def check_digest(self, policy: Mapping[str, Any]) -> None:
        """The name by which the weights were recorded may mean others by now.

        Raises:
            ConfigError: it does.
        """
        if self.digest and policy.get("digest") != self.digest:
            raise ConfigError(
                f"{self.name}: was sampled by weights {self.digest}; {policy.get('name')} now holds "
                f"{policy.get('digest')}. Name the policy that is to go on: --policy"
            )


def read_recorded(source: str) -> Recorded:
    """`RUN@best` and the like, an evaluation file, or a file of rollouts (.jsonl, .jsonl.gz).

    Raises:
        ConfigError: there is none, or a model behind an API made it.
    """
    path = Path(source)
    if path.is_file() and ".jsonl" in path.suffixes:
        found = Recorded(source, tuple(read_traces(path, sound_rollout)))
    else:
        evaluation = find_evaluation(source)
        digest = str(evaluation.policy.get("digest") or "")
        found = Recorded(source, evaluation.rollouts, _policy(source, evaluation.policy), digest)
    if any(turn.unseen_tokens for rollout in found.rollouts for turn in rollout.turns):
        raise ConfigError(
            f"{source}: a model behind an API made these episodes; allowed: those of a policy whose tokens are known, "
            "as what came before a turn is kept token by token"
        )
    return found


def _policy(source: str, recorded: Mapping[str, Any]) -> PolicySource | None:
    """Who the recording says, if those weights are there; else somebody has to say whose are to go on."""
    for name in _names(source, recorded):
        try:
            return PolicySource.find(name)
        except ConfigError:
            continue
    return None


def _names(source: str, recorded: Mapping[str, Any]) -> Iterator[str]:
    """By what names the weights may be found, the surest first."""
    if recorded.get("kind") == "run":
        yield source
        step = recorded.get("step")  # of RUN@test-best, which names an evaluation and no weights
        if step is not None:
            yield f"{recorded['run']}{AT}{step or BASELINE}"
    elif name := recorded.get("name"):
        yield str(name)
