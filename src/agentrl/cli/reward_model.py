"""`agentrl reward-model`: comparisons from rollouts, a model from comparisons, and what its hold-out showed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import GATE_FAILED, RUN_FAILED, Verbs, fail
from agentrl.cli.options import Config, Json, Set
from agentrl.cli.train import AllowChange, Resume, RunDir

if TYPE_CHECKING:
    from agentrl.reward_model.comparisons import Compared
    from agentrl.reward_model.episodes import Episode

reward_model = typer.Typer(
    cls=Verbs, no_args_is_help=True, rich_markup_mode=None, help="Learn from examples which episodes are good."
)

Sources = Annotated[
    list[Path], typer.Argument(metavar="RUN_DIR...", help="Directories of training runs, or files of rollouts.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write episodes and comparisons.")]
Validation = Annotated[Path, typer.Option(help="Where to write the hold-out: other tasks, other documents.")]
By = Annotated[
    str,
    typer.Option(help="outcome: success against failure; score: any two scores apart; labels: people's alone."),
]
Labels = Annotated[list[Path], typer.Option(help="JSONL of people's ratings and preferences. May be repeated.")]
Score = Annotated[str, typer.Option(help="Part of the grade, or hold-out grader, to go by.  [default: the score]")]
Threshold = Annotated[
    float | None, typer.Option(help="Least score of a success.  [default: the runs' grading.pass_threshold, or 0.75]")
]
Margin = Annotated[float, typer.Option(min=0, help="Scores that differ by no more are a tie, which is left out.")]
Most = Annotated[int, typer.Option(min=1, help="Comparisons of one task, at most.")]
Document = Annotated[str, typer.Option(help="Key of a task's row that names its document, such as path.")]
Levels = Annotated[
    int | None,
    typer.Option(min=1, help="Leading parts, between slashes, that make a document: 1 of acme/2015/page_3 is acme."),
]
Fraction = Annotated[float, typer.Option(min=0.01, max=0.9, help="About this share of the tasks is held out.")]
Evaluations = Annotated[bool, typer.Option("--evaluations", help="Of runs, learn from validation rollouts as well.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the choice and the order of comparisons.")]


@reward_model.command()
def pairs(
    sources: Sources,
    output: Output,
    validation: Validation,
    by: By = "outcome",
    labels: Labels = [],  # noqa: B006  (typer reads the default)
    score: Score = "",
    pass_threshold: Threshold = None,
    margin: Margin = 0.2,
    most: Most = 4,
    document: Document = "",
    levels: Levels = None,
    holdout: Fraction = 0.2,
    evaluations: Evaluations = False,
    seed: Seed = 17,
    as_json: Json = False,
) -> None:
    """Make the examples for `agentrl reward-model train` from rollouts.

    Tasks that share a document, or nearly the words, stay on one side of the split. Exits with 1 where a side has no
    comparison.
    """
    import json

    from agentrl.errors import ConfigError
    from agentrl.grading.versions import one_version
    from agentrl.labels import read_labels
    from agentrl.reward_model.comparisons import compare
    from agentrl.reward_model.data_file import write_examples
    from agentrl.reward_model.episodes import rated, to_episode
    from agentrl.reward_model.split import split
    from agentrl.runs.trace_files import read_traces, trace_files
    from agentrl.runs.traces import from_trace
    from agentrl.stages.episodes import settings_of

    if by not in ("outcome", "score", "labels"):
        raise ConfigError(f"--by: found {by!r}; allowed: outcome, score, labels")
    said = [read_labels(path) for path in labels]
    if by == "labels" and not said:
        raise ConfigError("--by labels: found no --labels FILE; name the file that people's labels are in")
    files = [file for source in sources for file in trace_files(source, evaluations=evaluations)]
    thresholds = {pass_threshold} if pass_threshold is not None else settings_of(sources)[1] or {0.75}
    if len(thresholds) > 1:
        raise ConfigError(f"--pass-threshold is needed: the runs have different ones ({thresholds})")
    found: dict[str, Episode] = {}
    versions: dict[str, str] = {}
    for file in files:
        for rollout in read_traces(file, from_trace):
            if rollout.grade.is_graded:
                versions.setdefault(rollout.grade.version, str(file))
            found[rollout.id] = to_episode(rollout, score=score, document=document, levels=levels)
    if by != "labels":  # which are people's, whoever graded
        one_version("reward-model comparisons", versions)
    episodes = rated(found.values(), (rating for each in said for rating in each.ratings))
    if document and episodes and not any(episode.document for episode in episodes):
        raise ConfigError(f"--document {document}: no task's row has that key")
    preferences = [preference for each in said for preference in each.preferences]
    results: dict[str, Any] = {}
    is_empty = False
    for name, path, part in zip(("train", "validation"), (output, validation), split(episodes, holdout), strict=True):
        ids = {episode.id for episode in part}
        compared = compare(
            part,
            by=by,  # type: ignore[arg-type]
            pass_threshold=next(iter(thresholds)),
            margin=margin,
            preferences=[each for each in preferences if each.chosen in ids or each.rejected in ids],
            most=most,
            seed=seed,
        )
        is_empty |= not compared.comparisons
        write_examples(path, part, compared.comparisons)
        results[name] = {"file": str(path), **_figures(part, compared)}
    print(json.dumps(results, indent=2) if as_json else "\n".join(_told(results)))
    sys.stdout.flush()
    if is_empty:
        raise typer.Exit(RUN_FAILED)


def _figures(episodes: list[Episode], compared: Compared) -> dict[str, Any]:
    return {
        "episodes": len(episodes),
        "tasks": len({episode.task_id for episode in episodes}),
        "documents": len({episode.document for episode in episodes if episode.document}),
        "comparisons": len(compared.comparisons),
        "compared_tasks": len({each.task_id for each in compared.comparisons}),
        "by_people": sum(bool(each.votes) for each in compared.comparisons),
        "dropped": dict(compared.dropped),
    }


def _told(results: dict[str, Any]) -> list[str]:
    lines = []
    for name, found in results.items():
        what = f"{found['comparisons']} comparisons of {found['compared_tasks']} tasks"
        of = f"{found['episodes']} episodes, {found['tasks']} tasks, {found['documents']} documents"
        lines.append(f"{name}: {what} ({of}) in {found['file']}")
        lines += [f"  {count} {reason}" for reason, count in found["dropped"].items()]
    return lines


@reward_model.command()
def train(
    config: Config,
    run_dir: RunDir = None,
    resume: Resume = False,
    allow_change: AllowChange = [],  # noqa: B006  (typer reads the default)
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Train a reward model and measure it on its hold-out.

    Exits with 3 where the gate refuses it; the folder is written all the same. Ctrl-C saves a checkpoint and says how
    to go on.
    """
    from agentrl.cli.stage import run_stage
    from agentrl.config import load_reward_model_config

    options = {"run_dir": run_dir, "resume": resume, "allow_change": allow_change}
    result = run_stage(
        "reward-model train", load_reward_model_config, config, options, overrides=overrides, as_json=as_json
    )
    if failures := result.summary["gate_failures"]:
        fail(f"the gate refuses this reward model: {'; '.join(failures)}", GATE_FAILED)


@reward_model.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `agentrl reward-model train` wrote.")],
    as_json: Json = False,
) -> None:
    """What the hold-out showed of a reward model.

    Exits with 3 where the gate refused it.
    """
    from agentrl.reward_model.page import markdown
    from agentrl.reward_model.training import read_report
    from agentrl.runs.files import to_json

    found = read_report(folder)
    print(to_json(found, indent=2) if as_json else markdown(found, name=folder.name))
    sys.stdout.flush()
    if found["gate"]["failures"]:
        raise typer.Exit(GATE_FAILED)
