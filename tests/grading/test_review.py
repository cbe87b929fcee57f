"""What a declaration may say and probably does not mean."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentrl.config.grader_file import parse_grader
from agentrl.grading import review
from agentrl.grading.sandbox import Level

CHECK = {
    "type": "string_check",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.reference_answer }}",
    "operation": "eq",
}
CODE = {"type": "python", "source": "def grade(sample, item):\n    return 0.5"}


def warnings_of(grader: dict[str, Any], *, is_built: bool = False, **rows: Any) -> list[str]:
    return asyncio.run(review.warnings_of(parse_grader(grader).grading, rows, is_built=is_built))


def test_a_good_grader_has_none() -> None:
    assert warnings_of(CHECK, is_built=True, train=[{"reference_answer": "42"}]) == []


def test_a_row_without_what_a_template_names_is_found() -> None:
    rows = [{"reference_answer": "42"}] * 16 + [{}] + [{"reference_answer": "42"}] + [{}]
    assert warnings_of(CHECK, **{"train.jsonl": rows}) == [
        "row 17 of train.jsonl and 1 more rows: no item.reference_answer, which grader string_check reads; "
        "answers to it would have no score"
    ]


def test_a_threshold_that_every_score_reaches_or_none() -> None:
    (found,) = warnings_of(CHECK | {"pass_threshold": 0.0})
    assert found.startswith("pass_threshold: found 0, the worst score or less")
    multi = {"type": "multi", "graders": {"a": CHECK | {"pass_threshold": 2.0}}, "calculate_output": "a"}
    assert warnings_of(multi) == ["graders.a.pass_threshold: found 2; its scores lie from 0 to 1"]


def test_a_part_that_the_formula_leaves_out() -> None:
    multi = {"type": "multi", "graders": {"a": CHECK, "ab": CHECK}, "calculate_output": "2 * ab"}
    assert warnings_of(multi) == ["graders.a: stands in no place of calculate_output; it is asked and changes no score"]


def test_a_secret_that_is_written_out_is_not_shown() -> None:
    grader = {"type": "endpoint", "url": "https://example.com", "headers": {"X-Api-Key": "hunter2"}}
    (found,) = warnings_of(grader)
    assert found.startswith("headers.X-Api-Key: found a secret written out")
    assert "hunter2" not in found
    assert warnings_of(grader | {"headers": {"X-Api-Key": "${GRADER_KEY}"}}) == []


def test_what_cannot_be_carried_out_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADER_KEY", raising=False)
    grader = {"type": "endpoint", "url": "https://example.com", "headers": {"X-Api-Key": "${GRADER_KEY}"}}
    (found,) = warnings_of(grader, is_built=True)
    assert found.startswith("cannot be carried out here: grader endpoint: header 'X-Api-Key'")
    assert "'GRADER_KEY' is not set" in found


@pytest.mark.parametrize(
    ("level", "declared", "start"),
    [
        (Level.BUBBLEWRAP, {}, None),
        (Level.LANDLOCK, {}, "sandbox: the strongest that works on this machine is landlock"),
        (Level.BUBBLEWRAP, {"sandbox": "unisolated"}, "sandbox: found unisolated; the code runs with your rights"),
    ],
)
def test_a_weak_sandbox_is_named(
    monkeypatch: pytest.MonkeyPatch, level: Level, declared: dict[str, str], start: str | None
) -> None:
    monkeypatch.setattr(review, "sandbox_level", lambda: level)
    found = warnings_of(CODE | declared)
    assert [each[: len(start or "")] for each in found] == ([start] if start else [])
