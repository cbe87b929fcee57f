"""Ask: every attack on every row, the right answer in many forms, right beside wrong, and the same answer again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

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
PROBES = 3
"""Rows whose right answers tell whether a grader is there at all."""
SCRATCHES = ("sanity", "noise", *(each.name for each in CHANGES))
NAMES = (*(each.name for each in CASES), "replay", *SCRATCHES)
"""What `only` and `skip` may name."""


@dataclass(frozen=True)
class SuiteOptions:
    """How much is asked, and what is demanded."""

    limits: Limits = field(default_factory=Limits)
    repeats: int = 5
    """Grades of one and the same answer, for the noise, none from a judge's cache; 0 or 1 leaves it out."""
    only: tuple[str, ...] = ()
    """Cases, changes, `sanity`, `noise`; empty is all of them."""
    skip: tuple[str, ...] = ()
    """Of those, what is left out."""
    at_once: int = 16
    """Answers that the graders have at any time."""
    seed: int = 17

    def wants(self, name: str) -> bool:
        return (not self.only or name in self.only) and name not in self.skip


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
    graders = [each for _, each in config.declared]
    gate = asyncio.Semaphore(options.at_once)

    async def ask(question: Question) -> list[Grade]:
        afresh = asked_afresh() if question.group == "noise" else nullcontext()
        async with gate:
            with afresh:
                return await panel.grades(submission_of(question.text, question.row, graders))

    try:
        await panel.look_for([submission_of(ladder(row)[RIGHT], row, graders) for row in rows[:PROBES]])
        answers = list(await asyncio.gather(*map(ask, questions)))
        again = [index for index, grades in enumerate(answers) if panel.has_ungraded(grades)]
        for index, grades in zip(again, await asyncio.gather(*(ask(questions[index]) for index in again)), strict=True):
            answers[index] = grades  # what failed in passing is no property of the answer
        controls = _controls([questions[index] for index in again if panel.has_ungraded(answers[index])])
        is_there = dict(zip(controls, await asyncio.gather(*map(ask, controls.values())), strict=True))
    finally:
        await panel.aclose()
    reports = []
    for number, target in enumerate(panel.targets):
        if target.judges_answers:
            outcomes = tuple(
                _outcome(question, grades[number], is_there.get(question.row.task.id, grades)[number])
                for question, grades in zip(questions, answers, strict=True)
            )
            reports.append(GraderReport(target, outcomes, options.limits, missing))
    skipped = tuple(target for target in panel.targets if not target.judges_answers)
    return SuiteReport(tuple(reports), len(rows), options.seed, skipped, panel.asked, panel.tokens, panel.cost_usd)


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


def _controls(unanswered: Sequence[Question]) -> dict[str, Question]:
    """Row -> its right answer, for the rows that something was left ungraded for: is the grader there at all?"""
    return {each.row.task.id: Question("ladder", RIGHT, each.row, ladder(each.row)[RIGHT]) for each in unanswered}


def _outcome(question: Question, grade: Grade, control: Grade) -> Outcome:
    was_asked = grade.is_graded or control.is_graded
    return Outcome(
        question.group, question.case, question.row.task.id, question.text, grade.score, grade.reason, was_asked
    )
