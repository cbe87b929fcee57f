"""Comparisons to the letter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentrl.config.graders import StringCheckConfig
from agentrl.grading import Submission, build_declared
from agentrl.types import Grade


def grade(answer: str, operation: str, reference: str, template: str = "{{ sample.output_text }}") -> Grade:
    config: Any = {"type": "string_check", "input": template, "reference": "{{item.ref}}", "operation": operation}
    grader = build_declared(StringCheckConfig(**config))
    return asyncio.run(grader.grade(Submission.of_text(answer, {"ref": reference})))


@pytest.mark.parametrize(
    ("answer", "operation", "reference", "score"),
    [
        ("Paris", "eq", "Paris", 1),
        ("Paris", "eq", "paris", 0),
        ("Paris ", "eq", "Paris", 0),
        ("Paris\n", "eq", "Paris", 0),
        ("", "eq", "", 1),
        ("Paris", "ne", "paris", 1),
        ("Paris", "neq", "Paris", 0),
        ("in Paris.", "like", "Paris", 1),
        ("Paris", "like", "in Paris", 0),
        ("in PARIS.", "like", "Paris", 0),
        ("in PARIS.", "ilike", "Paris", 1),
        ("STRASSE", "ilike", "straße", 1),
        ("Paris", "like", "P%s", 0),
        ("Paris", "ilike", "p_ris", 0),
        ("100% sure", "like", "100%", 1),
        ("a_b", "ilike", "A_B", 1),
        ("{{ item.ref }}", "eq", "Paris", 0),
    ],
)
def test_an_operation_holds_or_not(answer: str, operation: str, reference: str, score: float) -> None:
    found = grade(answer, operation, reference)
    assert (found.score, found.errors) == (score, ())
    assert found.explanation.endswith(": holds" if score else ": does not hold")


def test_what_is_missing_is_the_rows_fault_or_the_answers() -> None:
    assert grade("x", "eq", "x", "{{ item.other }}").errors == ("invalid_variable_error",)
    assert grade("x", "eq", "x", "{{ item.other }}").score is None
    found = grade("no JSON", "ne", "x", "{{ sample.output_json.city }}")
    assert (found.score, found.errors) == (0.0, ("sample_parse_error",))
    assert grade('{"city": "x"}', "eq", "x", "{{ sample.output_json.city }}").score == 1.0
