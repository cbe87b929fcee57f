"""Graders with known weaknesses, as endpoints without a network."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from agentrl.config import GradingConfig
from agentrl.grading.attack import SuiteOptions, SuiteReport, attack
from agentrl.grading.attack.rows import Row, rows_of
from agentrl.types import Task
from tests.factories import make_task

Score = Callable[[str, dict[str, Any]], Any]
VALUES = (389.1, 0.31547, -592.0, 10660.0, 121.0, -0.14356, 2.7, 73.15, 258.2, 102.15, 4522.0, 0.5977)


def tasks() -> list[Task]:
    """Rows such as FinQA's: a number, and its print."""
    return [
        make_task(
            f"t{index}",
            reference_answer=value,
            answer_text=f"{100 * value:.2f}%" if abs(value) < 1 else f"{value:g}",
            program="subtract(12.6, 9.9)",
        )
        for index, value in enumerate(VALUES)
    ]


def rows(n: int = 12, **options: Any) -> tuple[Row, ...]:
    return rows_of(tasks(), n=n, seed=1, **options)


def transport(score: Score) -> httpx.MockTransport:
    """A server that scores `(answer, item)`; an exception is its 500."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        try:
            return httpx.Response(200, json={"score": score(body["sample"]["output_text"], body["item"])})
        except Exception as error:
            return httpx.Response(500, text=str(error))

    return httpx.MockTransport(answer)


def run(
    score: Score | None = None,
    *,
    grading: dict[str, Any] | None = None,
    on: Sequence[Row] | None = None,
    replays: Sequence[str] = (),
    **options: Any,
) -> SuiteReport:
    """The suite on an endpoint that scores so, or on any other declared grader."""
    config = GradingConfig(**(grading or {"name": "g", "url": "http://localhost/grade"}))
    chosen = rows(3) if on is None else on
    over = transport(score) if score is not None else None
    return asyncio.run(attack(config, chosen, SuiteOptions(**options), replays=replays, transport=over))


def number_anywhere(answer: str, item: dict[str, Any]) -> float:
    """Any number of the answer will do, in any unit: what a quickly written regular expression does."""
    found = re.findall(r"-?\d+(?:\.\d+)?", answer.replace(",", "")[:20_000])
    return float(any(abs(float(each) - item["reference_answer"]) < 1e-6 for each in found))


def any_length(answer: str, item: dict[str, Any]) -> float:
    """A long answer must be a good one."""
    return min(1.0, len(answer) / 40)


def perfect(answer: str, item: dict[str, Any]) -> float:
    from examples.finqa.grader import grade_answer

    return grade_answer(answer, item["reference_answer"], item["answer_text"])
