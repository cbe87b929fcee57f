"""The kinds of graders, by the `type` that declares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from agentrl.config import GradingConfig
from agentrl.config.graders import GraderConfig
from agentrl.errors import ConfigError
from agentrl.grading.endpoint_grader import EndpointGrader
from agentrl.grading.grader import Grader
from agentrl.grading.run_grader import RunGrader


@dataclass(frozen=True)
class Surroundings:
    """What a grader may need that is not in its declaration."""

    base_url: str = ""
    """What `{serve}` in a url stands for."""
    asks_for_turns: bool = False
    """An endpoint is asked for `turn_scores`."""
    transport: httpx.AsyncBaseTransport | None = None
    """Replaces the network in tests."""


def _endpoint(config: Any, around: Surroundings) -> Grader:
    return EndpointGrader(config, around.base_url, asks_for_turns=around.asks_for_turns, transport=around.transport)


def _reward_model(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.reward_model import RewardModelGrader  # late: it loads torch

    del around
    return RewardModelGrader(config)


def _score_model(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.judges import ScoreModelGrader

    return ScoreModelGrader(config, around)


def _label_model(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.judges import LabelModelGrader

    return LabelModelGrader(config, around)


def _rubric(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.judges import RubricGrader

    return RubricGrader(config, around)


def _python(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.python_grader import PythonGrader

    del around
    return PythonGrader(config)


def _tool_use(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.tool_use import ToolUseGrader

    del around
    return ToolUseGrader(config)


def _policy_check(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.policy_check import PolicyCheckGrader

    del around
    return PolicyCheckGrader(config)


def _efficiency(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.efficiency import EfficiencyGrader

    del around
    return EfficiencyGrader(config)


def _string_check(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.string_check import StringCheckGrader

    del around
    return StringCheckGrader(config)


def _numeric(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.numeric import NumericGrader

    del around
    return NumericGrader(config)


def _text_similarity(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.text_similarity import TextSimilarityGrader

    del around
    return TextSimilarityGrader(config)


def _json_schema(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.json_schema import JsonSchemaGrader

    del around
    return JsonSchemaGrader(config)


def _multi(config: Any, around: Surroundings) -> Grader:
    from agentrl.grading.multi import MultiGrader

    named = {name: part.model_copy(update={"name": part.name or name}) for name, part in config.graders.items()}
    return MultiGrader(config, {name: build_declared(part, around) for name, part in named.items()})


BUILDERS: dict[str, Callable[[Any, Surroundings], Grader]] = {
    "endpoint": _endpoint,
    "multi": _multi,
    "string_check": _string_check,
    "numeric": _numeric,
    "text_similarity": _text_similarity,
    "json_schema": _json_schema,
    "score_model": _score_model,
    "label_model": _label_model,
    "python": _python,
    "rubric": _rubric,
    "reward_model": _reward_model,
    "tool_use": _tool_use,
    "policy_check": _policy_check,
    "efficiency": _efficiency,
}
"""A new kind is one file and one line here."""


def build_declared(config: GraderConfig, around: Surroundings | None = None) -> Grader:
    """The grader that a declaration means.

    Raises:
        ConfigError: an address, a header, a formula or a file of it cannot be used.
    """
    if config.type not in BUILDERS:
        raise ConfigError(f"grader {config.name or config.type}: type {config.type} cannot be carried out")
    return BUILDERS[config.type](config, around or Surroundings())


def grader_versions(config: GradingConfig) -> dict[str, str]:
    """Name to digest, of the grader that scores and of the hold-outs.

    Raises:
        ConfigError: see `build_declared`.
    """
    declared = {config.name: config.grader, **dict(zip(config.holdout_names, config.holdout, strict=True))}
    around = Surroundings("http://localhost")  # the address of a served endpoint is no part of its version
    return {name: build_declared(grader, around).version for name, grader in declared.items()}


def build_grader(
    config: GradingConfig, base_url: str = "", *, transport: httpx.AsyncBaseTransport | None = None
) -> RunGrader:
    """The grader of `grading:`. `base_url` is what `{serve}` stands for; `transport` replaces the network in tests.

    Raises:
        ConfigError: see `build_declared`.
    """
    around = Surroundings(base_url, asks_for_turns=config.turn_scores, transport=transport)
    return RunGrader(build_declared(config.grader, around), config)
