"""`agentrl labels`: episodes to Label Studio, and what people said there back into a file of labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import Json, write_to

if TYPE_CHECKING:
    from agentrl.types import Rollout

labels = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Exchange episodes and labels with Label Studio."
)


@labels.callback()
def _labels() -> None:
    """Exchange episodes and labels with Label Studio."""


@labels.command()
def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Directory of a training run, or a file of rollouts.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="TASKS.json", help="Where to write the tasks.")],
    evaluation: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="All episodes of it, such as validation-final.  [default: the audit queue]"),
    ] = None,
    pairs: Annotated[int, typer.Option(min=0, help="Ask which of two is better: most pairs of one task.")] = 0,
    interface: Annotated[
        Path | None, typer.Option("--interface", metavar="FILE.xml", help="Also write the labelling interface there.")
    ] = None,
) -> None:
    """Write episodes as tasks that Label Studio imports.

    People rate them from 1 to 5 stars, or, with --pairs, choose the better of two.
    """
    from agentrl.errors import ConfigError
    from agentrl.labels.label_studio import PAIRWISE_CONFIG, RATING_CONFIG, pairwise_tasks, rating_tasks

    rollouts = _rollouts(source, evaluation)
    tasks = pairwise_tasks(rollouts, per_task=pairs) if pairs else rating_tasks(rollouts)
    if not tasks:
        raise ConfigError(f"{source}: no task has two episodes here; give an evaluation with several samples an item")
    write_to("--out", out, json.dumps(tasks, ensure_ascii=False, indent=1))
    if interface is not None:
        write_to("--interface", interface, PAIRWISE_CONFIG if pairs else RATING_CONFIG)
    print(f"{len(tasks)} tasks in {out}" + (f", their labelling interface in {interface}" if interface else ""))


@labels.command("import")
def import_labels(
    exported: Annotated[Path, typer.Argument(metavar="EXPORT.json", help="Label Studio's export in the format JSON.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="LABELS.jsonl", help="Where to add the labels.")],
    stars: Annotated[int, typer.Option(min=2, help="Stars that the interface offered (maxRating).")] = 5,
    as_json: Json = False,
) -> None:
    """Add what people said in Label Studio to a file of labels.

    What the file says already is not added again.
    """
    from agentrl.labels import Rating, append_label, read_labels
    from agentrl.labels.label_studio import read_export

    found = read_export(exported, stars=stars)
    known = read_labels(out) if out.exists() else None
    already = {*known.ratings, *known.preferences} if known else set()
    new = [label for label in found.labels if label not in already]
    for label in new:
        append_label(out, label)
    ratings = sum(isinstance(label, Rating) for label in new)
    figures = {
        "ratings": ratings,
        "preferences": len(new) - ratings,
        "known": len(found.labels) - len(new),
        "passed_over": found.passed_over,
    }
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{out}: {ratings} new ratings, {len(new) - ratings} new preferences, {figures['known']} known already")
    for reason, count in found.passed_over.items():
        print(f"  {count} annotations passed over: {reason}")


def _rollouts(source: Path, evaluation: str | None) -> list[Rollout]:
    """The queued episodes, all of an evaluation, or all of a file; those without a score are left out."""
    from agentrl.errors import ConfigError
    from agentrl.evaluation.recorded import queued_rollouts, read_recorded
    from agentrl.labels import queued_evaluations, read_audit_queue
    from agentrl.runs.files import rollouts_path

    if source.is_dir() and evaluation is None:
        queue = [(name, entry) for name in queued_evaluations(source) for entry in read_audit_queue(source, name)]
        if not queue:
            raise ConfigError(f"{source}: no episode was put aside; name an --evaluation, such as validation-final")
        return list(queued_rollouts(source, queue).values())
    if evaluation is not None:
        try:
            source = rollouts_path(source, evaluation)
        except ValueError as error:
            raise ConfigError(f"--evaluation: {error}") from error
    recorded = read_recorded(source)
    return [rollout for rollouts in recorded.values() for rollout in rollouts if rollout.is_valid]
