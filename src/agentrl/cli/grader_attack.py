"""`agentrl grader attack`: is the grader hard to game? Asked before a policy is trained against it, and in CI."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.exits import GATE_FAILED, GATE_INCONCLUSIVE
from agentrl.cli.grader_setup import AtOnce, GraderPath, served, spent
from agentrl.cli.options import Json, Set
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.config.grader_file import GraderFile
    from agentrl.grading.attack import GraderReport, Outcome, SuiteOptions, SuiteReport
    from agentrl.grading.attack.rows import Row
    from agentrl.types import Task

Items = Annotated[int, typer.Option(min=1, help="Rows that are attacked, drawn from the validation data.")]
Repeats = Annotated[int, typer.Option(min=0, help="Grades of one and the same answer, for the noise; 0 asks for none.")]
Threshold = Annotated[
    float, typer.Option(min=0, max=1, help="What an attack may score, as a share of the range of scores.")
]
MaxStd = Annotated[
    float,
    typer.Option(min=0, max=1, help="Standard deviation that is allowed over forms of one answer, and over repeats."),
]
MinMutation = Annotated[float, typer.Option(min=0, max=1, help="Share of the attacks that has to be killed.")]
Only = Annotated[list[str], typer.Option("--only", metavar="CASE", help="Ask this case alone. May be repeated.")]
Skip = Annotated[list[str], typer.Option("--skip", metavar="CASE", help="Leave this case out. May be repeated.")]
Rows = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="Rows (JSONL), in place of the config's validation data.")
]
Reference = Annotated[
    str | None, typer.Option(metavar="KEY", help="Where a row holds the right answer.  [default: what looks like it]")
]
Form = Annotated[str, typer.Option(metavar="TEXT", help="How an answer is written down, with {answer} in it.")]
Rollouts = Annotated[
    Path | None,
    typer.Option(metavar="RUN_DIR|FILE", help="Also replay the best answers of these rollouts on other rows."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the rows that are drawn.")]

REPLAYED = 10
SHOWN = 3
"""Survivors of one case."""
WIDTH = 90


def attack(
    config: GraderPath,
    items: Items = 10,
    repeats: Repeats = 5,
    threshold: Threshold = 0.25,
    max_std: MaxStd = 0.05,
    min_mutation_score: MinMutation = 1.0,
    only: Only = [],  # noqa: B006  (typer reads the default)
    skip: Skip = [],  # noqa: B006
    data: Rows = None,
    reference: Reference = None,
    form: Form = "{answer}",
    rollouts: Rollouts = None,
    seed: Seed = 17,
    at_once: AtOnce = 16,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Try to get a score for nothing.

    Some 120 answers a row that must not pay, the right answer in other words, right beside wrong, and the same answer
    again. Exits with 3 where an attack survives, a form changes the score, the order is wrong or the grader is noisy,
    and with 4 where the grader could not be asked.
    """
    from agentrl.config.grader_file import load_grader
    from agentrl.errors import ConfigError
    from agentrl.grading.attack import Limits, SuiteOptions
    from agentrl.grading.attack.rows import keys_compared, rows_of
    from agentrl.grading.attack.suite import NAMES
    from agentrl.runs.files import to_json

    for option, names in {"--only": only, "--skip": skip}.items():
        if unknown := [name for name in names if name not in NAMES]:
            raise ConfigError(f"{option}: found {unknown[0]!r}; allowed: {', '.join(NAMES)}")
    file = load_grader(config, overrides)
    rows = rows_of(
        _tasks(file, data), n=items, seed=seed, key=reference, compared=keys_compared(file.grading), form=form
    )
    limits = Limits(threshold, max_std, min_mutation_score)
    options = SuiteOptions(limits, repeats=repeats, only=tuple(only), skip=tuple(skip), at_once=at_once, seed=seed)
    result = _attack(file, rows, options, _replays(rollouts))
    print(to_json(_plain(result), indent=2) if as_json else "\n".join(_lines(result)))
    if result.verdict != "good":
        sys.stdout.flush()
        raise typer.Exit(GATE_FAILED if result.verdict == "failed" else GATE_INCONCLUSIVE)


def _tasks(file: GraderFile, data: Path | None) -> tuple[Task, ...]:
    from agentrl.data.rows import read_tasks
    from agentrl.data.tasks import load_tasks
    from agentrl.errors import ConfigError

    if data is not None:
        return read_tasks(data, "validation")
    if file.run is None or file.run.data is None:
        raise ConfigError(f"{file.path}: there is no validation data beside this grader; name some with --data FILE")
    return load_tasks(file.run.data).validation


def _replays(source: Path | None) -> list[str]:
    """The best answers of recorded rollouts, each once."""
    from agentrl.evaluation.recorded import read_recorded

    if source is None:
        return []
    found = [rollout for recorded in read_recorded(source).values() for rollout in recorded if rollout.is_valid]
    best = sorted(found, key=lambda rollout: -(rollout.grade.score or 0.0))
    return list(dict.fromkeys(rollout.answer for rollout in best))[:REPLAYED]


def _attack(file: GraderFile, rows: tuple[Row, ...], options: SuiteOptions, replays: list[str]) -> SuiteReport:
    from agentrl.grading.attack import attack as run_suite

    with served(file.grading, file.run) as base_url:
        return asyncio.run(run_suite(file.grading, rows, options, replays=replays, base_url=base_url))


def _plain(result: SuiteReport) -> dict[str, object]:
    """The report with nothing in it that a terminal would obey."""
    found = result.as_dict()
    for grader in found["graders"]:
        for survivor in grader["attacks"]["survivors"]:
            survivor["text"] = _shown(survivor["text"], 2000)
        grader["first_reason"] = printable(grader["first_reason"])
    return found


def _lines(result: SuiteReport) -> Iterator[str]:
    for report in result.graders:
        yield from _grader_lines(report)
        yield ""
    for target in result.skipped:
        yield f"{printable(target.name)} ({target.kind}) does not say whether an answer is right: not attacked"
    if result.tokens:
        yield f"cost: {spent(result.tokens, result.cost_usd)}"
    yield f"{result.asked:,} answers to {result.rows} rows (seed {result.seed}): {result.verdict}"


def _grader_lines(report: GraderReport) -> Iterator[str]:
    found, target = report.as_dict(), report.target
    attacks, order = found["attacks"], found["order"]
    yield f"{printable(target.name)} ({target.kind}, {target.role}), version {target.version[:19]}: {report.verdict}"
    if attacks["total"]:
        more = f"{attacks['ungraded']} of them ungraded, {attacks['not_applicable']} not applicable"
        score = attacks["mutation_score"]
        yield f"  attacks  {attacks['killed']:,} of {attacks['total']:,} killed, mutation score {score:.3f} ({more})"
    if found["forms"]["total"]:
        same = found["forms"]["total"] - len(report.uneven)
        yield f"  forms    {same} of {found['forms']['total']} keep the score{_largest('deviation ', found['forms'])}"
    if means := order["mean_scores"]:
        shown = ", ".join(f"{rung} {score:.3f}" for rung, score in means.items())
        yield f"  order    mean scores {shown}; {len(report.misordered)} rows out of order"
    if found["noise"]["sigma"] is not None:
        sigma = found["noise"]["sigma"]
        yield f"  noise    standard deviation {sigma:.3f} of a repeated grade{_largest('', found['noise'])}"
    if report.unasked:
        yield f"  unasked  {len(report.unasked)}: {printable(found['first_reason'])[:300]}"
    by_case = sorted(report.survivors, key=lambda each: each.case)
    for case, group in groupby(by_case, key=lambda each: each.case):
        survivors = list(group)
        yield f"  survived: {case}, {len(survivors)} times"
        yield from (f"    {_survivor(each)}" for each in survivors[:SHOWN])
    for change, row in report.uneven[:SHOWN]:
        scores = [
            f"{'ungraded' if each.score is None else f'{each.score:g}'} for {_shown(each.text, 40)}"
            for each in report.of("change")
            if (each.case, each.row) == (change, row)
        ]
        yield f"  uneven: {change}, row {printable(row)}: {'; '.join(scores)}"
    for row, why in report.misordered[:SHOWN]:
        yield f"  out of order: row {printable(row)}: {why}"


def _survivor(outcome: Outcome) -> str:
    return f"row {printable(outcome.row)} scores {outcome.score:g}: {_shown(outcome.text, WIDTH)}"


def _largest(what: str, found: Mapping[str, float | None]) -> str:
    largest = found["largest_std"]
    return "" if largest is None else f", largest {what}{largest:.3f}"


def _shown(text: str, width: int) -> str:
    """On one line, in quotes, shortened in the middle: how an attack ends says as much as how it begins."""
    line = printable(text)
    if len(line) > width:
        line = f"{line[: width // 2]} ... {line[-width // 2 :]}"
    return f'"{line}"'
