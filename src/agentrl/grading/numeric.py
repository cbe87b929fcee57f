"""`type: numeric`: 1 for the right number in any common format, part of it for a near miss, else 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from agentrl.config.graders import NumericConfig
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.numbers import Number, clean, find_numbers, read_answer
from agentrl.grading.submission import Submission
from agentrl.grading.templates import MissingValue, render
from agentrl.strict_json import strict_json
from agentrl.types import Grade

READER = 1
"""Goes up whenever numbers are read or compared otherwise: it is part of the version of every numeric grader."""
ANSWER_KEYS = ("final_answer", "answer", "result", "value")
"""Where an answer in JSON has its number; what else stands there, such as a score of its own, is not read."""
QUESTION_CHARS = 12


@dataclass(frozen=True)
class Closeness:
    """How near an answer must be."""

    relative: float = 0.0
    """Distance that is right, as a share of the reference."""
    absolute: float = 0.0
    """Distance that is right, as it stands."""
    near_relative: float = 0.001
    near_score: float = 0.5

    def score(self, answer: Number | None, reference: Number, printed: Number | None = None) -> float:
        """1.0: the same number as the reference or as its print. Percent and fraction are the same number ("7%" is
        0.07; a bare "7" is not), "32" and "32 million" are not, nor are $ and €.

        `near_score`: the reference rounded to two or more digits, or cut to three or more, or `near_relative` off.

        Args:
            printed: the reference as it is printed, which may be rounded. Ignored where it contradicts the reference.
        """
        if answer is None or not math.isfinite(answer.value) or not math.isfinite(reference.value):
            return 0.0
        if answer.currency and reference.currency and answer.currency != reference.currency:
            return 0.0
        targets = [reference.value]
        if printed is not None and self._is_print_of(printed, reference.value):
            targets.append(printed.value)
        if any(self._is_same(answer.value, target) for target in targets):
            return 1.0
        off = abs(answer.value - reference.value)
        is_near = off <= self.near_relative * abs(reference.value) * (1 + 1e-9)
        return self.near_score if is_near or _is_rounding_of(answer, reference.value) else 0.0

    def _is_same(self, value: float, target: float) -> bool:
        return abs(value - target) <= max(self.absolute, self.relative * abs(target), 1e-12 * abs(target))

    def _is_print_of(self, printed: Number, reference: float) -> bool:
        """Whether a print shows the reference, within its last place; "57.2%" may stand for 0.572 or 57.2."""
        if printed.value == 0 or not math.isfinite(printed.value):
            return self._is_same(reference, printed.value)
        last_place, _ = printed.precisions()[0]
        scales = (printed.scale, 1.0)
        return any(abs(printed.face * scale - reference) <= last_place * scale * (1 + 1e-9) for scale in scales)


def as_number(value: float) -> Number:
    """A value that was not printed anywhere."""
    return Number(value, value, 1.0, "", 0, 0)


def only_number(text: str, units: dict[str, float] | None = None) -> Number | None:
    """The number of a text that has one and no other."""
    found = find_numbers(clean(text), units)
    return found[0] if len(found) == 1 else None


def _is_rounding_of(answer: Number, reference: float) -> bool:
    off = abs(answer.value - reference)
    for last_place, significant in answer.precisions():
        last_place *= answer.scale
        if significant >= 2 and off <= last_place / 2 * (1 + 1e-9):
            return True
        is_cut = 0 <= math.copysign(1.0, reference) * (reference - answer.value) < last_place
        if significant >= 3 and is_cut:
            return True
    return False


class NumericGrader:
    """Compares the number that an answer states with the reference."""

    def __init__(self, config: NumericConfig) -> None:
        self._config = config
        self._closeness = Closeness(
            config.relative_tolerance, config.absolute_tolerance, config.near_tolerance, config.near_score
        )
        self.version = content_version(config, reader=READER)

    def __repr__(self) -> str:
        return f"NumericGrader({self._config.reference!r})"

    async def aclose(self) -> None:
        """Nothing is held."""

    async def grade(self, submission: Submission) -> Grade:
        config = self._config
        try:
            text = render(config.input, submission)
            reference_text = _told(render(config.reference, submission))
            printed_text = render(config.printed, submission) if config.printed is not None else ""
        except MissingValue as missing:
            return missing.grade()
        reference = only_number(reference_text, config.units) or read_answer(reference_text, config.units)
        if reference is None or not math.isfinite(reference.value):
            return ungraded(f"{config.reference}: found {reference_text!r:.80}, no number", "invalid_variable_error")
        stated = _without_question(_told(text), submission)
        answer = read_answer(stated, config.units)
        if answer is None or not math.isfinite(answer.value):
            why = "the answer states no number, or more than one"
            return Grade(0.0, explanation=why, errors=("sample_parse_error",))
        score = self._closeness.score(answer, reference, only_number(printed_text, config.units))
        return Grade(score, explanation=f"read {answer.value:.10g}, reference {reference.value:.10g}")


def _told(text: str) -> str:
    """The answer of an answer in JSON; another text is what it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        told: Any = strict_json(text)
    except ValueError:
        return text
    if isinstance(told, dict):
        told = next((told[key] for key in ANSWER_KEYS if key in told), None)
    if isinstance(told, bool) or not isinstance(told, str | int | float):
        return ""
    return str(told)


def _without_question(text: str, submission: Submission) -> str:
    """A repeated question states nothing, whatever numbers it has; a short one may stand in an answer by chance."""
    for message in submission.item.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) and message.get("role") == "user" else None
        if isinstance(content, str) and len(content.strip()) >= QUESTION_CHARS:
            text = text.replace(content.strip(), " ")
    return text
