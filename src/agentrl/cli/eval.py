"""`agentrl eval`: any policy on any set of tasks, several samples an item, as a file that `agentrl compare` reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.attack_lines import attack_lines
from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Config, Json, Set, make_folder, spare_the_cores, training_config
from agentrl.cli.policy_options import ApiKeyEnv, ApiModel, ApiUrl, Policy, policy_source
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.evaluation.evaluation_files import Evaluation
    from agentrl.evaluation.policy_figures import Level, PolicyFigures

Out = Annotated[
    Path,
    typer.Option(metavar="FILE.json", help="Where the evaluation goes; its rollouts are written beside it."),
]
Split = Annotated[
    str | None, typer.Option(help="Which tasks of the config: validation, test or train.  [default: validation]")
]
SuiteFile = Annotated[
    Path | None, typer.Option("--suite", metavar="FILE", help="Frozen tasks in place of a split (`agentrl suite`).")
]
Tags = Annotated[
    list[str],
    typer.Option("--tag", metavar="TAG", help="Only items with this tag. May be repeated: any of them."),
]
Samples = Annotated[int | None, typer.Option(min=1, help="Rollouts an item.  [default: the config's]")]
Items = Annotated[int | None, typer.Option(min=1, help="Only the first so many items.  [default: the config's]")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the sampling.  [default: the config's]")]
Force = Annotated[bool, typer.Option("--force", help="Replace an evaluation that is there.")]
AllowContamination = Annotated[
    bool,
    typer.Option(
        "--allow-contamination", help="Measure on a suite that shares tasks with the training data; the file says so."
    ),
]

# figure, label, unit
ROWS = (
    ("reward", "reward", "score"),
    ("success_rate", "success rate", "share"),
    ("tool_calls", "tool calls", "count"),
    ("turns", "turns", "count"),
    ("tool_errors", "tool errors", "count"),
    ("malformed_calls", "malformed calls", "count"),
    ("output_tokens", "output tokens", "tokens"),
    ("reasoning_tokens", "reasoning tokens", "tokens"),
    ("latency_seconds", "latency, seconds", "count"),
    ("latency_p50_seconds", "median", "count"),
    ("latency_p95_seconds", "95th percentile", "count"),
    ("cost_usd", "cost", "usd"),
    ("cost_per_success_usd", "cost per success", "usd"),
)
DETAILS = ("latency_p50_seconds", "latency_p95_seconds")
ONCE = "The test split is for one look at the end: what was chosen by it, it measures no more."
NOTES = {
    "test": ONCE,
    "train": "These are training tasks: of a policy that learned from them they show what it remembers.",
}
"""Under the figures of a split, or of a suite that was frozen from it."""


def evaluate(
    config: Config,
    out: Out,
    policy: Policy = None,
    api_model: ApiModel = None,
    api_url: ApiUrl = None,
    api_key_env: ApiKeyEnv = None,
    split: Split = None,
    suite: SuiteFile = None,
    tag: Tags = [],  # noqa: B006  (typer reads the default)
    samples: Samples = None,
    items: Items = None,
    seed: Seed = None,
    force: Force = False,
    allow_contamination: AllowContamination = False,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Measure a policy: the baseline, a checkpoint, or a model behind an API.

    As in training: the same engine, tools, limits, grader and hold-outs. Every figure with its 95 % interval over
    items. Exits with 1 where no rollout could be graded.
    """
    from agentrl.errors import ConfigError, TrainingStopped
    from agentrl.evaluation.adversarial.figures import attack_figures
    from agentrl.evaluation.evaluate_policy import EvalOptions, evaluate_policy
    from agentrl.evaluation.evaluation_files import write_evaluation
    from agentrl.evaluation.partial import partial_beside
    from agentrl.evaluation.policy_figures import policy_figures
    from agentrl.progress import reporter_for
    from agentrl.runs.files import to_json

    resolved = training_config(config, overrides)
    if suite is not None and split is not None:
        raise ConfigError("--suite and --split: found both; allowed: one of them, as a suite has its own tasks")
    _refuse_out(out, is_forced=force)
    source = policy_source(policy, api_model, api_url, api_key_env)
    spare_the_cores()
    reporter, keep = reporter_for(), partial_beside(out)
    if force:
        keep.unlink(missing_ok=True)
    try:
        options = EvalOptions(
            split=split or "validation",
            suite=suite,
            tags=tuple(tag),
            samples=samples,
            items=items,
            seed=seed,
            allow_contamination=allow_contamination,
        )
        found = evaluate_policy(resolved, policy=source, options=options, reporter=reporter, keep=keep)
    except (KeyboardInterrupt, TrainingStopped):
        reporter.close()
        if keep.exists():
            print(f"what is done is kept in {printable(str(keep))}: the same command goes on", file=sys.stderr)
        raise
    finally:
        reporter.close()
    try:
        write_evaluation(out, found)
        keep.unlink()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    figures, attacks = policy_figures(found), attack_figures(found.rollouts)
    for problem in found.selection.get("contamination", ()):
        print(f"was trained on, so it measures memory: {printable(problem)}", file=sys.stderr)
    if as_json:
        record = {"out": str(out), **_record(found, figures), "attacks": [each.as_dict() for each in attacks]}
        print(to_json(record, indent=2))
    elif attacks:
        print("\n".join([*map(printable, attack_lines(found, attacks)), "", printable(str(out))]))
    else:
        print("\n".join([*map(printable, _lines(found, figures)), "", printable(str(out))]))
    if figures is None:
        sys.stdout.flush()
        raise typer.Exit(RUN_FAILED)


def _refuse_out(out: Path, *, is_forced: bool) -> None:
    """What would lose the rollouts at the end is found before they are made."""
    from agentrl.errors import ConfigError
    from agentrl.evaluation.evaluation_files import rollouts_beside

    if out.suffix != ".json" or out.is_dir():
        raise ConfigError(f"--out {out}: allowed: a file that ends in .json")
    for path in (out, rollouts_beside(out)):
        if path.exists() and not is_forced:
            raise ConfigError(f"--out {out}: {path} is there already; choose another name, or add --force")
    make_folder("--out", out.parent)


def _record(found: Evaluation, figures: PolicyFigures | None) -> dict[str, Any]:
    """For machines."""
    report = found.report
    return {
        "name": found.name,
        "policy": found.policy,
        "selection": found.selection,
        "n_items": report.n_items,
        "n_items_ungraded": report.n_items_ungraded,
        "samples_per_item": report.samples_per_item,
        "rollouts": len(found.rollouts),
        "ungraded": report.ungraded,
        "failure_classes": report.failure_classes,
        "stop_reasons": report.stop_reasons,
        **({} if figures is None else figures.as_dict()),
    }


def _lines(found: Evaluation, figures: PolicyFigures | None) -> Iterator[str]:
    """For people."""
    report, chosen = found.report, found.selection
    suite = chosen.get("suite")
    of = f"suite {suite['name']} {suite['version']} ({suite['digest'][:12]})" if suite else chosen["split"]
    tags = f", tags {', '.join(chosen['tags'])}" if chosen["tags"] else ""
    n_items = report.n_items + report.n_items_ungraded
    yield (
        f"{found.name} on {of}{tags}: {n_items} item{'s' * (n_items != 1)} x {report.samples_per_item} "
        f"sample{'s' * (report.samples_per_item != 1)}"
    )
    if figures is not None:
        yield from _table(figures)
    yield ""
    yield "ended by: " + ", ".join(f"{reason} {count}" for reason, count in report.stop_reasons.items())
    if report.ungraded:
        classes = ", ".join(f"{name} {count}" for name, count in report.failure_classes.items())
        yield f"{report.ungraded} of {len(found.rollouts)} rollouts ungraded, which have no vote: {classes}"
        reason = next(each.error or each.grade.reason for each in found.rollouts if not each.is_valid)
        yield f"  such as: {reason:.300}"
    if chosen["split"] in NOTES:
        yield NOTES[chosen["split"]]


def _table(figures: PolicyFigures) -> Iterator[str]:
    yield f"  {'':<20}{'mean':>10}  {'95 % interval':>20}"
    for name, label, unit in ROWS:
        level = figures.figures.get(name)
        if level is None or (name in ("reasoning_tokens", "malformed_calls", "tool_errors") and not level.value):
            continue
        yield _row(f"  {label}" if name in DETAILS else label, level, unit)
        if name == "tool_calls":
            for tool in sorted(each for each in figures.figures if each.startswith("tool_calls_")):
                yield _row(f"  {tool.removeprefix('tool_calls_')}", figures.figures[tool], "count")
    for k, one in figures.pass_at_k.items():
        if k > 1:
            yield _row(f"pass@{k}", one, "share")
            yield _row(f"pass^{k}", figures.pass_hat_k[k], "share")
    if not figures.tags:
        return
    yield ""
    looked = figures.tags_looked_at
    yield f"  {'by tag':<20}{'items':>10}{'reward':>10}  {f'{figures.tags_level:.2%} interval':>20}{'success':>10}"
    for each in figures.tags:
        yield (
            f"  {each.tag:<20.20}{each.reward.n_items:>10}{_shown(each.reward.value, 'score'):>10}  "
            f"{_interval(each.reward, 'score'):>20}{_shown(each.success_rate.value, 'share'):>10}"
        )
    yield f"  {looked} subset{'s' * (looked != 1)} looked at: each interval is so wide that 95 % holds for all at once"


def _row(label: str, level: Level, unit: str) -> str:
    return f"  {label:<20.20}{_shown(level.value, unit):>10}  {_interval(level, unit):>20}"


def _interval(level: Level, unit: str) -> str:
    return f"[{', '.join(_shown(end, unit) for end in level.interval)}]" if level.interval else "n/a"


def _shown(value: float | None, unit: str) -> str:
    from agentrl.evaluation.table import format_level

    return format_level(value, unit)
