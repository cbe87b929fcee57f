"""Grade an answer against FinQA's executed one: 1 for the right number, 0.5 for a near miss, else 0."""

from __future__ import annotations

import math

from examples.finqa.answer_number import Number, clean, find_numbers, read_answer

NEAR = 0.001  # relative distance of a near miss
HALF_A_DECIMAL = 5.001e-6  # references are rounded to five decimals


def parse_number(text: str) -> float | None:
    """The value that an answer states: "$12.3 million" -> 12300000, "7%" -> 0.07, "(12.3)" -> -12.3.

    None where there is no number, no finite one, or too many of them (see `answer_number.read_answer`).
    """
    number = read_answer(text)
    return number.value if number is not None and math.isfinite(number.value) else None


def grade_answer(answer_text: str, reference: float, reference_text: str | None = None) -> float:
    """Score an answer in [0, 1].

    1.0: equal to the reference at five decimals, or to the printed reference. Percent and fraction are the same
    number ("7%" is 0.07; a bare "7" is not), "32" and "32 million" are not.
    0.5: the reference rounded to two or more digits, or cut to three or more, or at most 0.1 % off.

    Args:
        reference: the executed answer; percentages as fractions.
        reference_text: the answer as the data set prints it. Ignored where it contradicts the reference.
    """
    answer = read_answer(answer_text)
    if answer is None or not math.isfinite(answer.value) or not math.isfinite(reference):
        return 0.0
    targets = [reference]
    printed = find_numbers(clean(reference_text or ""))
    if len(printed) == 1 and _is_print_of(printed[0], reference):
        targets.append(printed[0].value)
    if any(_is_same(answer.value, target) for target in targets):
        return 1.0
    if abs(answer.value - reference) <= NEAR * abs(reference) * (1 + 1e-9) or _is_rounding_of(answer, reference):
        return 0.5
    return 0.0


def _is_same(value: float, target: float) -> bool:
    return abs(value - target) <= max(HALF_A_DECIMAL, 1e-12 * abs(target))


def _is_print_of(printed: Number, reference: float) -> bool:
    """Whether the data set's print shows the reference, within its last place; "57.2%" may stand for 0.572 or 57.2."""
    if printed.value == 0 or not math.isfinite(printed.value):
        return _is_same(reference, printed.value)
    last_place, _ = printed.precisions()[0]
    scales = (printed.scale, 1.0)
    return any(abs(printed.face * scale - reference) <= last_place * scale * (1 + 1e-9) for scale in scales)


def _is_rounding_of(answer: Number, reference: float) -> bool:
    for last_place, significant in answer.precisions():
        last_place *= answer.scale
        off = abs(answer.value - reference)
        if significant >= 2 and off <= last_place / 2 * (1 + 1e-9):
            return True
        is_cut = 0 <= math.copysign(1.0, reference) * (reference - answer.value) < last_place
        if significant >= 3 and is_cut:
            return True
    return False
