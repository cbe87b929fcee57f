"""`agentrl audit`: episodes that evaluations put aside, shown to a person one by one, who says how good they are."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import Json, write_to
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.evaluation.people import AuditSummary
    from agentrl.evaluation.rank_correlation import Agreement
    from agentrl.labels import AuditEntry

Queue = list[tuple[str, "AuditEntry"]]
"""(evaluation, entry)"""

RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Directory of a training run.")]
Evaluation = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this evaluation, such as validation-000005.  [default: all]")
]
Rater = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who labels.  [default: the name you are logged in by]")
]
ListOnly = Annotated[bool, typer.Option("--list", help="Show what waits for whom, and leave.")]
Blind = Annotated[bool, typer.Option("--blind", help="Show the graders' scores only after the label.")]
Full = Annotated[bool, typer.Option("--full", help="Show long texts and outputs whole.")]
Export = Annotated[
    Path | None, typer.Option("--export", metavar="FILE.jsonl", help="Write what is left to label, to be filled in.")
]
Import = Annotated[
    Path | None, typer.Option("--import", metavar="FILE.jsonl", help="Read labels from such a file, or any of ratings.")
]
SHOWN = 10


def audit(
    run_dir: RunDir,
    evaluation: Evaluation = None,
    rater: Rater = None,
    only_list: ListOnly = False,
    blind: Blind = False,
    full: Full = False,
    export_to: Export = None,
    import_from: Import = None,
    as_json: Json = False,
) -> None:
    """Label the episodes that evaluations put aside.

    One at a time: a score from 0 to 1, g(ood) or b(ad), and a note. Each label is saved at once, in
    RUN_DIR/audit/labels.jsonl; the next call goes on where this one ends.
    """
    from agentrl.labels import append_label, labels_path, read_labels

    if only_list and (export_to or import_from):
        from agentrl.errors import ConfigError

        raise ConfigError("--list leaves everything as it is: give it without --export and --import")
    queue = _queue(run_dir, evaluation)
    who = rater or _whoever_this_is()
    labels = labels_path(run_dir)
    ratings = read_labels(labels).ratings if labels.exists() else ()
    if import_from is not None:
        from agentrl.labels.worksheet import new_ratings, read_worksheet

        found = read_worksheet(import_from, {entry.rollout_id for _, entry in queue}, rater or "")
        new = new_ratings(found, ratings)
        for each in new:
            append_label(labels, each)
        print(f"{import_from}: {len(new)} new labels, {len(found) - len(new)} known already", file=sys.stderr)
        ratings = read_labels(labels).ratings if labels.exists() else ()
    done = {rating.rollout_id for rating in ratings if rating.rater == who}
    waiting = [(name, entry) for name, entry in queue if entry.rollout_id not in done]
    if only_list and not as_json:
        print("\n".join(_listed(queue, waiting, who)))
        return
    if export_to is not None:
        _export(run_dir, waiting, export_to, who, blind)
        return
    if waiting and not import_from and not only_list and not as_json:
        if not sys.stdin.isatty() or not sys.stdout.isatty():
            print("\n".join(_what_to_do(run_dir, waiting, who)))
            return
        from agentrl.cli.audit_session import label_all

        label_all(run_dir, waiting, who, is_blind=blind, is_full=full)
        ratings = read_labels(labels).ratings if labels.exists() else ()
    from agentrl.evaluation.people import audit_summary

    summary = audit_summary(queue, ratings, pass_threshold=_pass_threshold(run_dir))
    if as_json:
        from agentrl.runs.files import to_json

        print(to_json({"rater": who, "waiting": len(waiting), **summary.as_dict()}, indent=2))
    else:
        print("\n".join(_summary_lines(summary)))


def _queue(run: Path, evaluation: str | None) -> Queue:
    """Everything that was put aside, or one evaluation's part of it."""
    from agentrl.errors import ConfigError
    from agentrl.labels import queued_evaluations, read_audit_queue

    if not run.is_dir():
        raise ConfigError(f"{run}: no such directory; give the directory of a run of `agentrl train`")
    try:
        names = [evaluation] if evaluation is not None else queued_evaluations(run)
        queue = [(name, entry) for name in names for entry in read_audit_queue(run, name)]
    except ValueError as error:
        raise ConfigError(f"--evaluation: {error}" if not isinstance(error, ConfigError) else str(error)) from error
    if not queue:
        raise ConfigError(
            f"{run}: no episode was put aside (audit/ is empty or missing); grading.audit says how many an evaluation "
            "puts aside, and `agentrl ui` lets people pick some"
        )
    return queue


def _whoever_this_is() -> str:
    from agentrl.errors import ConfigError
    from agentrl.labels import whoever_this_is

    if name := whoever_this_is():
        return name
    raise ConfigError("--rater is needed: nobody is logged in by a name")


def _pass_threshold(run: Path) -> float:
    """Of the run's own config; where it cannot be read, the default."""
    from agentrl.config import GradingConfig, load_config
    from agentrl.errors import ConfigError
    from agentrl.runs.files import CONFIG

    default = float(GradingConfig.model_fields["pass_threshold"].default)
    try:
        grading = load_config(run / CONFIG).grading
    except ConfigError as error:
        print(f"warning: {error}; pass_threshold {default:g} is taken", file=sys.stderr)
        return default
    return grading.pass_threshold if grading else default


def _listed(queue: Queue, waiting: Queue, who: str) -> Iterator[str]:
    queued, open_ = Counter(name for name, _ in queue), Counter(name for name, _ in waiting)
    width = max(map(len, queued))
    yield f"{'evaluation':<{width}}  queued  waiting for {printable(who)}"
    for name, count in queued.items():
        yield f"{printable(name):<{width}}  {count:>6}  {open_[name]:>7}"


def _export(run: Path, waiting: Queue, out: Path, who: str, is_blind: bool) -> None:
    from agentrl.errors import ConfigError
    from agentrl.evaluation.recorded import queued_rollouts
    from agentrl.labels.worksheet import worksheet_line

    if out.exists():  # perhaps with a day's labels in it
        raise ConfigError(f"--export {out}: exists already; import what is filled in there, or choose another name")
    rollouts = queued_rollouts(run, waiting)
    text = "".join(worksheet_line(entry, rollouts[entry.rollout_id], who, is_blind=is_blind) for _, entry in waiting)
    write_to("--export", out, text)
    name = shlex.quote(str(run))
    print(f"{len(waiting)} episodes in {out}: fill in `score` (0 to 1) and `note`, then")
    print(f"  agentrl audit {name} --import {shlex.quote(str(out))}")


def _what_to_do(run: Path, waiting: Queue, who: str) -> Iterator[str]:
    name = shlex.quote(str(run))
    yield f"{len(waiting)} episodes wait for {printable(who)}, and this is no terminal to ask at. Either of:"
    yield f"  agentrl audit {name}                        in a terminal"
    yield f"  agentrl audit {name} --export to_label.jsonl, fill in `score` and `note`, then"
    yield f"  agentrl audit {name} --import to_label.jsonl"


def _summary_lines(summary: AuditSummary) -> Iterator[str]:
    raters = ", ".join(f"{printable(name)} {count}" for name, count in summary.by_rater.items())
    yield f"{summary.labelled} of {summary.queued} episodes labelled" + (f" ({raters})" if raters else "")
    yield from _agreement("grader and people", summary.grader)
    yield from _agreement("  on those drawn at random", summary.grader_on_random)
    for name, found in summary.holdouts.items():
        yield from _agreement(f"hold-out {printable(name)} and people", found)
    for what, episodes in (
        ("passed by the grader, failures to people", summary.false_positives),
        ("failed by the grader, good to people", summary.false_negatives),
    ):
        if episodes:
            yield f"{len(episodes)} {what}:"
        for each in episodes[:SHOWN]:
            note = f": {printable(each.note)}" if each.note else ""
            place = f"{each.entry.rollout_id} ({each.evaluation}, task {printable(each.entry.task_id)})"
            yield f"  {printable(place)} score {each.entry.score:g}, people {each.label:g}{note}"
        if len(episodes) > SHOWN:
            yield f"  ... {len(episodes) - SHOWN} more, see --json"


def _agreement(what: str, found: Agreement | None) -> Iterator[str]:
    if found is None:
        return
    if found.spearman is None:
        yield f"{what}: no Spearman correlation, as one of the two says the same of all {found.n}"
        return
    interval = f" [{found.interval.low:+.2f}, {found.interval.high:+.2f}]" if found.interval else ""
    yield f"{what}: Spearman {found.spearman:+.2f}{interval} over {found.n} episodes"
