"""What every grader is, and what it says when it cannot grade."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from agentrl.config.graders import GraderSection
from agentrl.grading.submission import Submission, canonical
from agentrl.types import Grade, Rollout

ERROR_FLAGS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)
"""The flags of a graders/run reply; `Grade.errors` holds those that were raised."""


class Grader(Protocol):
    """A kind of grader, carried out: one file a kind, one line in `build.py`."""

    @property
    def version(self) -> str:
        """Digest of all that decides a score; see `content_version`."""
        ...

    async def grade(self, submission: Submission) -> Grade:
        """A finite score, or `Grade(None, reason)` for every failure. Never raises, never guesses 0."""
        ...

    async def aclose(self) -> None: ...


class RolloutGrader(Protocol):
    """Scores finished rollouts: what the rollout engine asks."""

    async def grade(self, rollout: Rollout) -> Grade:
        """A score that the run's options allow, or `Grade(None, reason)`; as `Grader.grade`."""
        ...

    async def aclose(self) -> None: ...


def content_version(config: GraderSection, **further: Any) -> str:
    """sha256 of a declaration and of what else decides its scores, such as the digest of a model's weights."""
    content = config.model_dump(mode="json", exclude=set(config.not_content))
    return f"sha256:{hashlib.sha256(canonical([content, further]).encode('utf-8', 'surrogatepass')).hexdigest()}"


def ungraded(reason: str, *errors: str, seconds: float = 0.0) -> Grade:
    """No score, why, and the flags of whose fault it is."""
    return Grade(None, reason, seconds, errors=errors)


def any_errors(grades: Iterable[Grade]) -> tuple[str, ...]:
    """The flags that at least one of several grades raised, in the order of `ERROR_FLAGS`."""
    raised = {flag for grade in grades for flag in grade.errors}
    return tuple(flag for flag in ERROR_FLAGS if flag in raised)


def known_cost_usd(tokens: Mapping[str, Mapping[str, int]], cost_usd: float) -> float | None:
    """What tokens cost; None where some have no price, as 0 would be a lie."""
    return None if any(counts.get("unpriced") for counts in tokens.values()) else cost_usd


def add_tokens(grades: Iterable[Grade]) -> dict[str, dict[str, int]]:
    """Tokens of several grades by model and kind."""
    total: dict[str, dict[str, int]] = {}
    for grade in grades:
        for model, counts in grade.tokens.items():
            of_model = total.setdefault(model, {})
            for kind, count in counts.items():
                of_model[kind] = of_model.get(kind, 0) + count
    return total
