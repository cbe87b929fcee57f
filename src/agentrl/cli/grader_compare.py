"""`agentrl grader compare`: recorded rollouts under a new grader, held against their old grades and against people."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.grader_setup import AtOnce, served
from agentrl.cli.options import Json, Set, write_to
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.config import RunConfig
    from agentrl.config.grader_file import GraderFile
    from agentrl.evaluation.grader_comparison import GraderComparison, Regrading, Scale
    from agentrl.evaluation.rank_correlation import Agreement
    from agentrl.evaluation.regrade import Regraded
    from agentrl.types import Rollout

Source = Annotated[
    Path, typer.Argument(metavar="RUN_DIR|FILE", help="A run directory, or a file of rollouts, .jsonl or .jsonl.gz.")
]
New = Annotated[Path, typer.Option("--grader", metavar="GRADER", help="The new grader: alone, or in a run's config.")]
LabelFile = Annotated[
    Path | None, typer.Option("--labels", metavar="FILE", help="What people said, as `agentrl audit` writes it.")
]
Against = Annotated[
    str, typer.Option(help="What --min-spearman is about: old or labels.  [default: labels where there are some]")
]
MinSpearman = Annotated[
    float | None, typer.Option(min=-1, max=1, help="Exit with 1 where the rank correlation is lower.")
]
WithTest = Annotated[bool, typer.Option("--test", help="Re-grade the run's test rollouts as well.")]
Out = Annotated[Path | None, typer.Option(help="Also write all of it here, as JSON.")]
Kept = Annotated[
    Path | None,
    typer.Option("--regraded", metavar="FILE", help="Write the rollouts with their new grades, one a line."),
]

EXCERPT_CHARS = 100
"""Of an explanation."""


def compare(
    source: Source,
    grader: New,
    labels: LabelFile = None,
    against: Against = "",
    min_spearman: MinSpearman = None,
    test: WithTest = False,
    out: Out = None,
    regraded: Kept = None,
    at_once: AtOnce = 16,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Re-grade recorded rollouts with a new grader.

    Rank correlation with the old scores and with people's, change of the mean, answers that pass under one grader
    only, and those that the two see most differently. Old grades of several versions are kept apart. Exits with 1
    where nothing could be graded, or the correlation is below --min-spearman.
    """
    from agentrl.config.grader_file import load_grader
    from agentrl.errors import ConfigError
    from agentrl.evaluation.grader_comparison import Scale, compare_graders
    from agentrl.evaluation.recorded import read_recorded
    from agentrl.labels import read_labels
    from agentrl.runs.files import to_json
    from agentrl.runs.traces import to_trace

    side = against or ("labels" if labels else "old")
    if side not in ("old", "labels"):
        raise ConfigError(f"--against: found {against!r}; allowed: old, labels")
    if side == "labels" and labels is None:
        raise ConfigError("--against labels: found no --labels FILE to hold the grader against")
    file = load_grader(grader, overrides)
    recorded = read_recorded(source, with_test=test)
    ratings = read_labels(labels).ratings if labels is not None else ()
    found = _regrade(file, source, recorded, at_once)
    new = Scale.of(file.grading)
    result = compare_graders(found, _old_scale(source, new), new, ratings, n_rollouts=sum(map(len, recorded.values())))
    failed = _below(result, side, min_spearman)
    record = {"source": str(source), "grader": str(grader), "against": side, **result.as_dict(), "problem": failed}
    traces = (to_json(to_trace(replace(each.rollout, grade=each.grade))) + "\n" for each in found)
    for option, path, text in (("--out", out, to_json(record, indent=2) + "\n"), ("--regraded", regraded, "")):
        if path is not None:
            write_to(option, path, text or "".join(traces))
    print(to_json(record, indent=2) if as_json else "\n".join(_lines(result, side)))
    if failed:
        sys.stdout.flush()
        print(failed, file=sys.stderr)
        raise typer.Exit(RUN_FAILED)


def _regrade(file: GraderFile, source: Path, recorded: Mapping[str, Sequence[Rollout]], at_once: int) -> list[Regraded]:
    """The new grades, with a bar that moves; the servers that the grader needs live as long."""
    from agentrl.evaluation.regrade import CUT_OFF, regrade
    from agentrl.grading import build_grader
    from agentrl.progress import reporter_for

    total = sum(each.stop_reason not in CUT_OFF for rollouts in recorded.values() for each in rollouts)
    reporter = reporter_for()
    reporter.phase(f"grading {total} rollouts with {printable(file.grading.name)}")
    every = max(1, total // 10)

    async def work(base_url: str) -> list[Regraded]:
        built = build_grader(file.scoring, base_url)
        try:
            return await regrade(
                recorded,
                built,
                at_once=at_once,
                on_done=lambda done: reporter.step(done, total, {}) if done % every == 0 else None,
            )
        finally:
            await built.aclose()

    try:
        with served(file.grading, file.run or _run_behind(file, source)) as base_url:
            return asyncio.run(work(base_url))
    finally:
        reporter.close()


def _run_behind(file: GraderFile, source: Path) -> RunConfig | None:
    """The config of the run directory, for a grader alone that says `{serve}`."""
    from agentrl.config import load_config
    from agentrl.runs.files import CONFIG

    if any("{serve}" in endpoint.url for _, endpoint in file.grading.endpoints) and (source / CONFIG).is_file():
        return load_config(source / CONFIG)
    return None


def _old_scale(source: Path, new: Scale) -> Scale:
    """What the recorded scores mean, by the run's own config; without one, what the new ones mean."""
    import yaml

    from agentrl.errors import ConfigError
    from agentrl.evaluation.grader_comparison import Scale
    from agentrl.runs.files import CONFIG

    path = source / CONFIG
    if not path.is_file():
        return new
    try:
        grading = yaml.safe_load(path.read_text("utf-8"))["grading"]
        return Scale(*(float(grading[key]) for key in ("min_score", "max_score", "pass_threshold")))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: is no config of `agentrl train` ({error!r:.100})") from error


def _below(result: Regrading, side: str, least: float | None) -> str:
    """Why the command fails; empty where it does not. A correlation that is missing is not enough."""
    if not result.comparisons:
        return "no rollout has both an old and a new score"
    if least is None:
        return ""
    for each in result.comparisons:
        found = each.agreement if side == "old" else each.new_against_labels
        if found is None or found.spearman is None or found.spearman < least:
            shown = "none" if found is None or found.spearman is None else f"{found.spearman:.3f}"
            return f"Spearman against {side}: found {shown}; allowed: at least {least:g} (--min-spearman)"
    return ""


def _lines(result: Regrading, side: str) -> Iterator[str]:
    """All of it to read."""
    counts = f"{result.n_rollouts} rollouts"
    for number, what in (
        (result.cut_off, "cut off, so not graded"),
        (result.old_ungraded, "without an old score"),
        (sum(result.new_ungraded.values()), "without a new score"),
    ):
        counts += f", {number} {what}" if number else ""
    yield counts + (f", {result.cost_usd:.4f} USD" if result.cost_usd else "")
    for reason, count in result.new_ungraded.items():
        yield f"  {count} x {printable(reason):.200}"
    if result.unknown_labels:
        yield f"{result.unknown_labels} rated rollouts are not among them"
    if len(result.comparisons) > 1:
        yield f"found grades of {len(result.comparisons)} pairs of versions: each is held against the new on its own"
    for each in result.comparisons:
        yield ""
        yield from _comparison(each, side)


def _comparison(found: GraderComparison, side: str) -> Iterator[str]:
    from agentrl.grading.versions import shown

    same = "; the same version, so what differs is its noise" if found.old_version == found.new_version else ""
    yield f"old {printable(shown(found.old_version))}, new {printable(shown(found.new_version))}{same}"
    yield f"  {'new against old':<23}{_agreement(found.agreement, is_judged=side == 'old')}"
    for label, of_labels in (
        ("new against labels", found.new_against_labels),
        ("old against labels", found.old_against_labels),
    ):
        if of_labels is not None:
            is_judged = side == "labels" and label.startswith("new")
            yield f"  {label:<23}{_agreement(of_labels, is_judged=is_judged)}"
    interval = found.mean_change_interval
    change = f"{found.old_mean:.3f} to {found.new_mean:.3f}: {found.mean_change:+.3f}"
    change += f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
    yield f"  {'mean score':<23}{change}"
    yield (
        f"  {'passes under one only':<23}{found.flips:.1%}: "
        f"{found.newly_passed:.1%} now pass, {found.newly_failed:.1%} no longer do"
    )
    width = max(len("recorded in"), *(len(each.file) for each in found.files))
    yield f"  {'recorded in':<{width}}  rollouts    old    new  change  Spearman"
    for file in found.files:
        rank = "-" if file.spearman is None else f"{file.spearman:.3f}"
        figures = f"{file.n:>8}  {file.old_mean:.3f}  {file.new_mean:.3f}  {file.new_mean - file.old_mean:+.3f}"
        yield f"  {printable(file.file):<{width}}  {figures}  {rank:>8}"
    if found.disagreements:
        yield "  furthest apart"
    for each in found.disagreements:
        label = "" if each.label is None else f", people {each.label:g}"
        text = printable(each.explanation)
        why = f": {text[:EXCERPT_CHARS]}{'...' if len(text) > EXCERPT_CHARS else ''}" if text else ""
        where = f"{printable(each.rollout_id)} (task {printable(each.task_id)}, {printable(each.file)})"
        yield f"    {each.old_score:.4g} -> {each.new_score:.4g}{label}  {where}{why}"


def _agreement(found: Agreement, *, is_judged: bool) -> str:
    from agentrl.evaluation.rank_correlation import AGREEMENT

    if found.spearman is None:
        return f"no rank correlation over {found.n} rollouts: one of the two says the same of all"
    interval = f" [{found.interval.low:.3f}, {found.interval.high:.3f}]" if found.interval else ""
    text = f"Spearman {found.spearman:.3f}{interval} over {found.n} rollouts"
    if not is_judged:
        return text
    return f"{text}: {'good' if found.is_enough else 'too low'}, {AGREEMENT:g} or more is asked for"
