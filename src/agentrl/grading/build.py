"""The kinds of graders, by the `type` that declares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from agentrl.config import GradingConfig
from agentrl.config.graders import GraderConfig, MultiConfig
from agentrl.errors import ConfigError
from agentrl.grading.efficiency import EfficiencyGrader
from agentrl.grading.endpoint_grader import EndpointGrader
from agentrl.grading.grader import Grader
from agentrl.grading.json_schema import JsonSchemaGrader
from agentrl.grading.judges import LabelModelGrader, RubricGrader, ScoreModelGrader
from agentrl.grading.multi import MultiGrader
from agentrl.grading.numeric import NumericGrader
from agentrl.grading.policy_check import PolicyCheckGrader
from agentrl.grading.python_grader import PythonGrader
from agentrl.grading.reward_model import RewardModelGrader
from agentrl.grading.run_grader import RunGrader
from agentrl.grading.string_check import StringCheckGrader
from agentrl.grading.surroundings import Surroundings
from agentrl.grading.text_similarity import TextSimilarityGrader
from agentrl.grading.tool_use import ToolUseGrader


def _endpoint(config: Any, around: Surroundings) -> Grader:
    return EndpointGrader(config, around.base_url, asks_for_turns=around.asks_for_turns, transport=around.transport)


def _multi(config: Any, around: Surroundings) -> Grader:
    named = {name: part.model_copy(update={"name": part.name or name}) for name, part in config.graders.items()}
    return MultiGrader(config, {name: build_declared(part, around) for name, part in named.items()})


BUILDERS: dict[str, Callable[[Any, Surroundings], Grader]] = {
    "endpoint": _endpoint,
    "multi": _multi,
    "reward_model": lambda config, _: RewardModelGrader(config),
    "score_model": ScoreModelGrader,
    "label_model": LabelModelGrader,
    "rubric": RubricGrader,
    "python": lambda config, _: PythonGrader(config),
    "string_check": lambda config, _: StringCheckGrader(config),
    "numeric": lambda config, _: NumericGrader(config),
    "text_similarity": lambda config, _: TextSimilarityGrader(config),
    "json_schema": lambda config, _: JsonSchemaGrader(config),
    "tool_use": lambda config, _: ToolUseGrader(config),
    "policy_check": lambda config, _: PolicyCheckGrader(config),
    "efficiency": lambda config, _: EfficiencyGrader(config),
}
"""A new kind is one file and one line here. What loads a library for it loads it when one is built."""


def build_declared(config: GraderConfig, around: Surroundings | None = None) -> Grader:
    """The grader that a declaration means.

    Raises:
        ConfigError: an address, a header, a formula or a file of it cannot be used.
    """
    if config.type not in BUILDERS:
        raise ConfigError(f"grader {config.name or config.type}: type {config.type} cannot be carried out")
    return BUILDERS[config.type](config, around or Surroundings())


ASK_SERVERS = ("endpoint", "score_model", "label_model", "rubric")
"""Kinds whose addresses and keys may come with the servers that a run starts."""


def check_graders(config: GradingConfig, *, is_served: bool) -> None:
    """Build what can be built before a run's servers have started, and let it go: a missing file is told at once.

    Args:
        is_served: addresses and keys of graders that ask servers may come with the run's own servers.

    Raises:
        ConfigError: see `build_declared`.
    """
    for grader in (config.grader, *config.holdout):
        for part in grader.graders.values() if isinstance(grader, MultiConfig) else (grader,):
            if not (is_served and part.type in ASK_SERVERS):
                build_declared(part)


def build_grader(
    config: GradingConfig, base_url: str = "", *, transport: httpx.AsyncBaseTransport | None = None
) -> RunGrader:
    """The grader of `grading:`. `base_url` is what `{serve}` stands for; `transport` replaces the network in tests.

    Raises:
        ConfigError: see `build_declared`.
    """
    around = Surroundings(base_url, asks_for_turns=config.turn_scores, transport=transport)
    return RunGrader(build_declared(config.grader, around), config)
