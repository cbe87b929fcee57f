"""The graders that are put to the test: the one that rewards, its parts, and those that watch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from agentrl.config import GradingConfig
from agentrl.config.endpoint import EndpointSection
from agentrl.config.graders import GraderSection, MultiConfig
from agentrl.config.grading import DEFAULT_PASS_FRACTION
from agentrl.errors import AgentRLError
from agentrl.grading.build import build_declared, build_grader
from agentrl.grading.grader import Grader, add_tokens, known_cost_usd
from agentrl.grading.submission import Submission
from agentrl.grading.surroundings import Surroundings
from agentrl.types import Grade

Role = Literal["reward", "part", "holdout"]
OTHER_MEASURES = ("tool_use", "policy_check", "efficiency", "json_schema")
"""Kinds that do not say whether an answer is right."""
RETRIES, PATIENCE = 1, 1_000_000
"""Of an endpoint: one more attempt, and no pause however many attacks it cannot answer."""


@dataclass(frozen=True)
class Target:
    """One grader and the scale of its scores."""

    name: str
    kind: str
    role: Role
    least: float
    best: float
    pass_score: float
    version: str

    @property
    def judges_answers(self) -> bool:
        return self.kind not in OTHER_MEASURES

    def share(self, score: float) -> float:
        """A score as a share of the range, 0 the least, 1 the best."""
        return (score - self.least) / (self.best - self.least)


class Panel:
    """Asks all graders of a config about one answer.

    Attributes:
        targets: what is reported on, in its order.
        asked: answers that were put to them.
        tokens: judge model -> prompt, completion and cached tokens.

    Raises:
        ConfigError: one of them cannot be built.
    """

    def __init__(
        self, config: GradingConfig, base_url: str = "", *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        config = config.model_copy(
            update={"grader": patient(config.grader), "holdout": tuple(map(patient, config.holdout))}
        )
        self._main = build_grader(config, base_url, transport=transport)
        self._parts: Mapping[str, Grader] = getattr(self._main.grader, "parts", {})
        around = Surroundings(base_url, transport=transport)
        self._holdout = {
            name: build_declared(each, around) for name, each in zip(config.holdout_names, config.holdout, strict=True)
        }
        main = Target(config.name, config.grader.type, "reward", config.min_score, config.max_score,
                      config.pass_threshold, self._main.version)  # fmt: skip
        declared = config.grader.graders if isinstance(config.grader, MultiConfig) else {}
        parts = [_target(name, each, "part", self._parts[name].version) for name, each in declared.items()]
        watching = zip(self._holdout.items(), config.holdout, strict=True)
        self.targets = (
            main,
            *parts,
            *(_target(name, each, "holdout", grader.version) for (name, grader), each in watching),
        )
        self.asked, self._cost_usd = 0, 0.0
        self.tokens: dict[str, dict[str, int]] = {}
        self._absent: dict[Target, Grade] = {}

    @property
    def cost_usd(self) -> float | None:
        """At the prices of judges; None where one has no price."""
        return known_cost_usd(self.tokens, self._cost_usd)

    def has_ungraded(self, grades: Sequence[Grade]) -> bool:
        """Whether one of those that say if an answer is right did not say it."""
        pairs = zip(self.targets, grades, strict=True)
        return any(target.judges_answers and not grade.is_graded for target, grade in pairs)

    async def look_for(self, submissions: Sequence[Submission]) -> None:
        """Ask about a few right answers. Who has no grade for any of them is absent, and not asked again."""
        found = await asyncio.gather(*map(self.grades, submissions))
        for index, target in enumerate(self.targets):
            if found and not any(grades[index].is_graded for grades in found):
                self._absent[target] = found[0][index]

    async def grades(self, submission: Submission) -> list[Grade]:
        """The grade of every target."""
        self.asked += 1
        main, *others = self.targets
        found = [await self._grade(main, submission, {})]
        found += [await self._grade(target, submission, found[0].sub_scores) for target in others]
        self._cost_usd += sum(grade.cost_usd for grade in found)
        self.tokens = add_tokens([Grade(None, tokens=self.tokens), *found])
        return found

    async def _grade(self, target: Target, submission: Submission, of_parts: Mapping[str, float]) -> Grade:
        if not target.judges_answers:
            return Grade(None, f"{target.kind} does not judge answers")
        if target in self._absent:
            return self._absent[target]
        if target.role == "reward":
            return await _asked(self._main.grade_submission(submission))
        if target.role == "part" and target.name in of_parts:
            return Grade(of_parts[target.name])
        graders = self._parts if target.role == "part" else self._holdout
        return await _asked(graders[target.name].grade(submission))

    async def aclose(self) -> None:
        await asyncio.gather(self._main.aclose(), *(each.aclose() for each in self._holdout.values()))


def patient(grader: Any) -> Any:
    """A declaration whose endpoints are asked at most twice, and never given up on: attacks are meant to break them."""
    if isinstance(grader, MultiConfig):
        return grader.model_copy(update={"graders": {name: patient(each) for name, each in grader.graders.items()}})
    if isinstance(grader, EndpointSection):
        retries = min(grader.retries, RETRIES)
        return grader.model_copy(update={"retries": retries, "breaker_failures": PATIENCE})
    return grader


def _target(name: str, config: GraderSection, role: Role, version: str) -> Target:
    least, best = config.least_score, config.best_score
    passes = (
        config.pass_threshold if config.pass_threshold is not None else least + DEFAULT_PASS_FRACTION * (best - least)
    )
    return Target(name, config.type, role, least, best, passes, version)  # type: ignore[attr-defined]


async def _asked(grading: Any) -> Grade:
    """A grade, whatever happens: a grader that breaks is what this is about."""
    try:
        grade: Grade = await grading
    except AgentRLError as error:
        return Grade(None, str(error))
    except Exception as error:  # a bug of a grader is a finding, not the end of the suite
        return Grade(None, f"raised {type(error).__name__}: {error}"[:300])
    if grade.score is not None and not math.isfinite(grade.score):
        return Grade(None, f"found score {grade.score}; a score is a finite number")
    return grade
