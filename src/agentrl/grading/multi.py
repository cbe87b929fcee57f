"""`type: multi`: several graders side by side, and one score by a formula.

Where a part that the formula names has no score there is none at all: a sum without its safety part would be another
grader. `optional` parts of a weighted sum are the exception, and say so in the grade.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import replace

from agentrl.config.graders import MultiConfig
from agentrl.config.graders.union import rounded
from agentrl.grading.formula import evaluate
from agentrl.grading.grader import Grader, add_tokens, any_errors, content_version
from agentrl.grading.submission import Submission
from agentrl.types import Grade


class MultiGrader:
    """Parts and a formula.

    Args:
        parts: by the names that the formula uses, built from `config.graders`.
    """

    def __init__(self, config: MultiConfig, parts: Mapping[str, Grader]) -> None:
        self._config, self.parts = config, dict(parts)
        self._formula = config.formula
        self._versions: dict[tuple[str, ...], str] = {}

    def __repr__(self) -> str:
        return f"MultiGrader({self._formula.text!r}, {', '.join(self.parts)})"

    @property
    def version(self) -> str:
        """Of the formula and of every part."""
        return self._version({})

    async def aclose(self) -> None:
        for part in self.parts.values():
            await part.aclose()

    async def grade(self, submission: Submission) -> Grade:
        """The formula's value over the parts' scores; what they cost is summed, what they say is put together."""
        started = time.perf_counter()
        found = await asyncio.gather(*(part.grade(submission) for part in self.parts.values()))
        grades = {name: _finite(grade) for name, grade in zip(self.parts, found, strict=True)}
        return replace(
            self._combined(grades),
            seconds=time.perf_counter() - started,
            sub_scores=_sub_scores(grades),
            version=self._version({name: grade.version for name, grade in grades.items()}),
            cost_usd=math.fsum(grade.cost_usd for grade in grades.values()),
            tokens=add_tokens(grades.values()),
        )

    def _combined(self, grades: Mapping[str, Grade]) -> Grade:
        """Score or reason, explanation and flags."""
        scores = {name: grade.score for name, grade in grades.items() if grade.score is not None}
        errors = set(any_errors(grades.values()))
        missing = {name: grades[name].reason for name in self._formula.names if name not in scores}
        if any(name not in self._config.optional for name in missing) or (missing and not scores):
            return Grade(None, _failed(missing), errors=_ordered(errors))
        try:
            if missing:
                score = self._renormalised(scores)
                errors |= set() if any(grades[name].errors for name in missing) else {"other_error"}
            else:
                score = rounded(evaluate(self._formula, scores))
        except ValueError as error:
            reason = f"calculate_output '{self._formula.text:.120}': {error}"
            return Grade(None, reason, errors=_ordered(errors | {"formula_parse_error"}))
        says = [f"graded without {', '.join(missing)}, weights renormalised ({_failed(missing)})"] if missing else []
        says += [f"{name}: {grade.explanation}" for name, grade in grades.items() if grade.explanation]
        return Grade(score, explanation="; ".join(says), errors=_ordered(errors))

    def _renormalised(self, scores: Mapping[str, float]) -> float:
        """The weighted sum of the scores that there are, on the scale of all of them."""
        weights = self._config.weights
        present = math.fsum(weight for name, weight in weights.items() if name in scores)
        there = {name: scores.get(name, 0.0) for name in self._formula.names}
        if present <= 0:
            raise ValueError("no part with a weight has a score")
        return rounded(evaluate(self._formula, there) * math.fsum(weights.values()) / present)

    def _version(self, told: Mapping[str, str]) -> str:
        """Parts may tell a version of their own with a grade, such as that of their server."""
        versions = {name: told.get(name) or part.version for name, part in self.parts.items()}
        key = tuple(versions.values())
        if key not in self._versions:
            self._versions = {key: content_version(self._config, parts=versions)}  # the last one: they seldom change
        return self._versions[key]


def _finite(grade: Grade) -> Grade:
    if grade.score is None or math.isfinite(grade.score):
        return grade
    return replace(grade, score=None, reason=f"found score {grade.score!r}")


def _sub_scores(grades: Mapping[str, Grade]) -> dict[str, float]:
    """Of the parts, and under `part.sub` of theirs."""
    found: dict[str, float] = {}
    for name, grade in grades.items():
        if grade.score is not None:
            found[name] = grade.score
        found |= {f"{name}.{sub}": score for sub, score in grade.sub_scores.items()}
    return found


def _failed(missing: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason or 'no score'}" for name, reason in missing.items())


def _ordered(errors: set[str]) -> tuple[str, ...]:
    return any_errors([Grade(None, errors=tuple(errors))])
