"""Ask: every attack on every row, the right answer in many forms, right beside wrong, and the same answer again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import httpx

from agentrl.config import GradingConfig
from agentrl.grading.attack.cases import CASES, replayed
from agentrl.grading.attack.episode import submission_of
from agentrl.grading.attack.forms import CHANGES, ladder
from agentrl.grading.attack.panel import Panel
from agentrl.grading.attack.report import GraderReport, Group, Limits, Outcome, SuiteReport
from agentrl.grading.attack.rows import Row
from agentrl.grading.judges import asked_afresh
from agentrl.types import Grade

RIGHT, WRONG = "right", "wrong"
SCRATCHES = ("sanity", "noise", *(each.name for each in CHANGES))
NAMES = (*(each.name for each in CASES), "replay", *SCRATCHES)
"""What `only` may name."""


@dataclass(frozen=True)
class SuiteOptions:
    """How much is asked, and what is demanded."""

    limits: Limits = field(default_factory=Limits)
    repeats: int = 5
    """Grades of one and the same answer, for the noise, none from a judge's cache; 0 or 1 leaves it out."""
    only: tuple[str, ...] = ()
    """Cases, changes, `sanity`, `noise`; empty is all of them."""
    at_once: int = 16
    """Answers that the graders have at any time."""
    seed: int = 17

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only


@dataclass(frozen=True)
class Question:
    """An answer that graders are asked about."""

    group: Group
    case: str
    row: Row
    text: str


async def attack(
    config: GradingConfig,
    rows: Sequence[Row],
    options: SuiteOptions | None = None,
    *,
    replays: Sequence[str] = (),
    base_url: str = "",
    transport: httpx.AsyncBaseTransport | None = None,
) -> SuiteReport:
    """Attack the grader of a config, its parts and its hold-outs.

    Args:
        rows: see `rows_of`.
        replays: answers of a policy, tried on every row that they are wrong for.
        base_url, transport: as of `build_grader`.

    Raises:
        ConfigError: a grader cannot be built.
    """
    options = options or SuiteOptions()
    questions, missing = _questions(rows, options, replays)
    panel = Panel(config, base_url, transport=transport)
    gate = asyncio.Semaphore(options.at_once)

    async def ask(question: Question) -> list[Grade]:
        afresh = asked_afresh() if question.group == "noise" else nullcontext()
        async with gate:
            with afresh:
                return await panel.grades(submission_of(question.text, question.row, config.grader))

    try:
        answers = await asyncio.gather(*map(ask, questions))
        controls = await asyncio.gather(*(ask(each) for each in _controls(questions, answers, panel)))
    finally:
        await panel.aclose()
    is_there = {
        (question.row.task.id, index): grade.is_graded
        for question, grades in zip(_controls(questions, answers, panel), controls, strict=True)
        for index, grade in enumerate(grades)
    }
    reports = []
    for index, target in enumerate(panel.targets):
        if target.judges_answers:
            outcomes = tuple(
                _outcome(question, grades[index], is_there=is_there.get((question.row.task.id, index), True))
                for question, grades in zip(questions, answers, strict=True)
            )
            reports.append(GraderReport(target, outcomes, options.limits, missing))
    skipped = tuple(target for target in panel.targets if not target.judges_answers)
    return SuiteReport(tuple(reports), len(rows), options.seed, skipped)


def _questions(rows: Sequence[Row], options: SuiteOptions, replays: Sequence[str]) -> tuple[list[Question], int]:
    """All that is to be asked, and how many pairs of a case and a row have no attack."""
    found: list[Question] = []
    missing = 0
    cases = [case for case in (*CASES, *([replayed(replays)] if replays else [])) if options.wants(case.name)]
    for row in rows:
        for case in cases:
            texts = case.answers(row)
            missing += not texts
            found += [Question("attack", case.name, row, text) for text in texts]
        for change in CHANGES:
            if options.wants(change.name):
                found += [Question("change", change.name, row, text) for text in change.answers(row)]
        rungs = ladder(row)
        if options.wants("sanity"):
            found += [Question("ladder", rung, row, text) for rung, text in rungs.items()]
        if options.wants("noise") and options.repeats > 1:
            steady = [(rung, rungs[rung]) for rung in (RIGHT, WRONG) if rung in rungs]
            found += [Question("noise", rung, row, text) for rung, text in steady for _ in range(options.repeats)]
    return found, missing


def _controls(questions: Sequence[Question], answers: Sequence[list[Grade]], panel: Panel) -> list[Question]:
    """The right answer to each row that something was left ungraded for: is the grader there at all?"""
    judging = [index for index, target in enumerate(panel.targets) if target.judges_answers]
    rows = {
        question.row.task.id: question
        for question, grades in zip(questions, answers, strict=True)
        if any(not grades[index].is_graded for index in judging)
    }
    return [replace(each, text=ladder(each.row)[RIGHT]) for each in rows.values()]


def _outcome(question: Question, grade: Grade, *, is_there: bool) -> Outcome:
    was_asked = grade.is_graded or is_there
    return Outcome(
        question.group, question.case, question.row.task.id, question.text, grade.score, grade.reason, was_asked
    )
