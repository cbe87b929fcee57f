"""Grade an answer against FinQA's executed one: 1 for the right number, 0.5 for a near miss, else 0.

How numbers are read and compared is agentrl's numeric grader; here are the tolerances of this data set.
"""

from __future__ import annotations

import math

from agentrl.grading.numbers import read_answer
from agentrl.grading.numeric import Closeness, as_number, only_number

CLOSENESS = Closeness(absolute=5.001e-6)  # references are rounded to five decimals: half of the last one


def parse_number(text: str) -> float | None:
    """The value that an answer states: "$12.3 million" -> 12300000, "7%" -> 0.07, "(12.3)" -> -12.3.

    None where there is no number, no finite one, or too many of them (see `agentrl.grading.numbers.read_answer`).
    """
    number = read_answer(text)
    return number.value if number is not None and math.isfinite(number.value) else None


def grade_answer(answer_text: str, reference: float, reference_text: str | None = None) -> float:
    """Score an answer in [0, 1]; see `agentrl.grading.numeric.Closeness.score`.

    Args:
        reference: the executed answer; percentages as fractions.
        reference_text: the answer as the data set prints it. Ignored where it contradicts the reference.
    """
    return CLOSENESS.score(read_answer(answer_text), as_number(reference), only_number(reference_text or ""))
