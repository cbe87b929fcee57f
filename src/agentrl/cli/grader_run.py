"""`agentrl grader run`: what does the grader say of this answer?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.grader_setup import AtOnce, GraderPath, served, spent
from agentrl.cli.options import Json, Set
from agentrl.printable import printable, printable_lines

if TYPE_CHECKING:
    from agentrl.config import GradingConfig
    from agentrl.config.grader_file import GraderFile
    from agentrl.grading import Submission
    from agentrl.types import Grade

Answer = Annotated[str | None, typer.Option(help="The text to grade.")]
Item = Annotated[str | None, typer.Option(metavar="JSON", help="The item that it answers, a JSON object.")]
Row = Annotated[int | None, typer.Option(min=1, help="Or the item in this row of the config's data, from 1.")]
Split = Annotated[str, typer.Option(help="Whose row: train, validation or test.")]
SampleFile = Annotated[
    Path | None,
    typer.Option("--sample", metavar="FILE", help="Or a file: {sample | model_sample | answer, item} a line."),
]
LABEL = 13
"""Columns before what is said."""


def run(
    grader: GraderPath,
    answer: Answer = None,
    item: Item = None,
    row: Row = None,
    split: Split = "train",
    sample: SampleFile = None,
    at_once: AtOnce = 16,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Grade a text, or a file of them.

    Shows score, sub-scores, explanation, flags, version and cost, or why there is no score. --json prints the reply
    of graders/run, one a line for a file. Exits with 1 where an answer could not be graded.
    """
    from agentrl.config.grader_file import load_grader
    from agentrl.grading.wire import to_response
    from agentrl.runs.files import to_json

    file = load_grader(grader, overrides)
    if sample is not None:
        _refuse_beside("--sample", answer=answer, item=item, row=row)
        submissions = _read_samples(sample)
    else:
        submissions = [_submission(file, answer, item, row, split)]
    with served(file.grading, file.run) as base_url:
        grades = asyncio.run(_grade(file.scoring, base_url, submissions, at_once))
    is_one = sample is None
    for number, grade in enumerate(grades, start=1):
        if as_json:
            print(to_json(to_response(grade, file.grading), indent=2 if is_one else None))
        else:
            if not is_one:
                print(f"sample {number}")
            print("\n".join(_lines(grade, file.grading)))
    if not as_json and not is_one:
        print(_summary(grades))
    if not all(grade.is_graded for grade in grades):
        sys.stdout.flush()
        raise typer.Exit(RUN_FAILED)


async def _grade(grading: GradingConfig, base_url: str, submissions: list[Submission], at_once: int) -> list[Grade]:
    from agentrl.grading import build_grader
    from agentrl.grading.many import grade_many

    grader = build_grader(grading, base_url)
    try:
        return await grade_many(grader, submissions, at_once=at_once)
    finally:
        await grader.aclose()


def _submission(file: GraderFile, answer: str | None, item: str | None, row: int | None, split: str) -> Submission:
    from agentrl.errors import ConfigError
    from agentrl.grading import Submission
    from agentrl.strict_json import strict_json

    if answer is None:
        raise ConfigError("found nothing to grade; give --answer TEXT, or --sample FILE")
    if row is not None:
        _refuse_beside("--row", item=item)
        return Submission.of_text(answer, _item_of_row(file, row, split))
    try:
        found = strict_json(item) if item is not None else {}
    except ValueError as error:
        raise ConfigError(f"--item: found no JSON ({error}); allowed: a JSON object") from None
    if not isinstance(found, dict):
        raise ConfigError(f"--item: found {found!r:.80}; allowed: a JSON object")
    return Submission.of_text(answer, found)


def _refuse_beside(option: str, **others: object) -> None:
    from agentrl.errors import ConfigError

    for name, value in others.items():
        if value is not None:
            raise ConfigError(f"{option}: found beside --{name}; allowed: one of them")


def _item_of_row(file: GraderFile, row: int, split: str) -> dict[str, Any]:
    """What graders receive of a task: its keys and its messages."""
    from agentrl.data.tasks import SPLITS, load_tasks
    from agentrl.errors import ConfigError

    if split not in SPLITS:
        raise ConfigError(f"--split: found {split!r}; allowed: {', '.join(SPLITS)}")
    if file.run is None or file.run.data is None:
        raise ConfigError(f"--row: {file.path} has no `data`; give --item JSON, or the config of a run")
    tasks = getattr(load_tasks(file.run.data), split)
    if row > len(tasks):
        raise ConfigError(f"--row: found {row}; allowed: 1 to {len(tasks)}, the {split} tasks of {file.path}")
    task = tasks[row - 1]
    return {**task.item, "messages": list(task.messages)}


def _read_samples(path: Path) -> list[Submission]:
    """One JSON object a line, as graders/run and endpoint graders receive them."""
    from agentrl.errors import ConfigError
    from agentrl.grading.wire import to_submission
    from agentrl.json_files import read_json_lines

    found = []
    for number, request in read_json_lines(path):
        try:
            found.append(to_submission(request))
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from None
    if not found:
        raise ConfigError(f'--sample {path}: is empty; it has one JSON object a line, such as {{"answer": "42"}}')
    return found


def _lines(grade: Grade, grading: GradingConfig) -> Iterator[str]:
    """A grade to read."""
    from agentrl.grading.grader import known_cost_usd

    def said(label: str, text: str) -> Iterator[str]:
        first, *rest = printable_lines(text).split("\n")
        yield f"{label:<{LABEL}}{first}".rstrip()
        yield from (f"{'':<{LABEL}}{line}".rstrip() for line in rest)

    if grade.score is None:
        yield from said("ungraded", grade.reason)
    else:
        word = "passed" if grade.score >= grading.pass_threshold else "not passed"
        yield from said("score", f"{grade.score:g}, {word} (from {grading.pass_threshold:g} on)")
    width = max(map(len, grade.sub_scores), default=0)
    for index, (name, score) in enumerate(grade.sub_scores.items()):
        yield from said("sub-scores" if index == 0 else "", f"{printable(name):<{width}}  {score:g}")
    if grade.explanation:
        yield from said("explanation", grade.explanation)
    if grade.errors:
        yield from said("flags", ", ".join(grade.errors))
    yield from said("version", grade.version)
    if grade.tokens or grade.cost_usd:
        yield from said("cost", spent(grade.tokens, known_cost_usd(grade.tokens, grade.cost_usd)))
    yield from said("seconds", f"{grade.seconds:.3f}")


def _summary(grades: list[Grade]) -> str:
    scores = [grade.score for grade in grades if grade.score is not None]
    if not scores:
        return f"none of {len(grades)} samples graded"
    versions = {grade.version for grade in grades if grade.is_graded}
    mean = f"mean score {sum(scores) / len(scores):.3f}"
    several = f"under {len(versions)} versions of the grader, which have no common mean"
    return f"{len(scores)} of {len(grades)} samples graded, {mean if len(versions) == 1 else several}"
