"""A reference in a text is found by value and by whole words, and a short one proves nothing."""

from __future__ import annotations

import pytest

from agentrl.tools.checks.leakage import is_strong, mentions, references


@pytest.mark.parametrize(
    ("text", "reference", "is_there"),
    [
        ("net revenue $6,179.00 in 2016", "6179", True),
        ("net revenue 6179.5", "6179", False),
        ("it fell by -350", "-350", True),
        ("1e3 of them", "1000", True),
        ("the answer is 4.", "4", True),
        ("14 or 4.5 or v1.4.2", "4", False),
        ("The capital is  paris, France", "Paris", True),
        ("Parisian", "Paris", False),
        ("new\nyork", "New York", True),
    ],
)
def test_a_mention(text: str, reference: str, is_there: bool) -> None:
    assert mentions(text, reference) == is_there


@pytest.mark.parametrize(
    ("reference", "strong"),
    [("4", False), ("350", False), ("0.57", False), ("6179", True), ("yes", False), ("Lima", False), ("Paris", True)],
)
def test_a_reference_that_many_texts_hold_is_weak(reference: str, strong: bool) -> None:
    assert is_strong(reference) == strong


def test_the_answer_of_a_row_is_found_by_its_key() -> None:
    item = {"reference_answer": 950.9, "path": "a", "answers": ["x"], "expected": " 7 ", "is_answer": True, "gold": ""}
    assert references(item) == {"reference_answer": "950.9", "expected": "7"}
