"""`type: string_check`: 1 where two texts compare as they should, else 0."""

from __future__ import annotations

from collections.abc import Callable

from agentrl.config.graders import StringCheckConfig
from agentrl.grading.grader import content_version
from agentrl.grading.submission import Submission
from agentrl.grading.templates import MissingValue, render
from agentrl.types import Grade

OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "neq": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}
"""Nothing is trimmed; `%` and `_` are characters like any other."""


class StringCheckGrader:
    """Compares two templates."""

    def __init__(self, config: StringCheckConfig) -> None:
        self._config = config
        self.version = content_version(config)

    def __repr__(self) -> str:
        return f"StringCheckGrader({self._config.input!r} {self._config.operation} {self._config.reference!r})"

    async def aclose(self) -> None:
        """Nothing is held."""

    async def grade(self, submission: Submission) -> Grade:
        try:
            text = render(self._config.input, submission)
            reference = render(self._config.reference, submission)
        except MissingValue as missing:
            return missing.grade()
        is_true = OPERATIONS[self._config.operation](text, reference)
        verdict = "holds" if is_true else "does not hold"
        compared = f"{text[:200]!r} {self._config.operation} {reference[:200]!r}"
        return Grade(float(is_true), explanation=f"{compared}: {verdict}")
