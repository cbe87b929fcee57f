"""`agentrl train`: from a config to a run directory and a before/after table."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import INTERRUPTED, RUN_FAILED, fail
from agentrl.cli.options import Config, Json, Set, spare_the_cores, training_config

if TYPE_CHECKING:
    from agentrl.config import RunConfig
    from agentrl.training import TrainingResult

EXIT_CODES = {None: 0, "interrupted": INTERRUPTED}
"""By what stopped the run; any rule that is not named here has failed it."""

RunDir = Annotated[Path | None, typer.Option(help="Where the run is kept.  [default: runs/NAME-TIME]")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in --run-dir, from its last checkpoint.")]
AllowChange = Annotated[
    list[str],
    typer.Option(
        metavar="KEY", help="With --resume: go on though this key, or section, has changed since. May be repeated."
    ),
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Record where each step's time goes; a table at the end, and profile.json.")
]


def train(
    config: Config,
    run_dir: RunDir = None,
    resume: Resume = False,
    allow_change: AllowChange = [],  # noqa: B006  (typer reads the default)
    profile: Profile = False,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Train a policy and compare it with its baseline.

    Ctrl-C saves a checkpoint and says how to go on.
    """
    from agentrl.errors import ConfigError
    from agentrl.progress import SilentReporter, reporter_for

    if resume and run_dir is None:
        raise ConfigError("--resume needs to know the run: add --run-dir DIR")
    if allow_change and not resume:
        raise ConfigError("--allow-change is about a run that is gone on with: add --resume")
    resolved = training_config(config, overrides)

    spare_the_cores()
    from agentrl.training import train as run_training  # after the checks: it loads torch

    is_first = int(os.environ.get("RANK", "0")) == 0  # of the processes of a launcher: the others work in silence
    reporter = reporter_for() if is_first else SilentReporter()
    try:
        result = run_training(
            resolved, run_dir=run_dir, resume=resume, allow_change=allow_change, reporter=reporter, profile=profile
        )
    finally:
        reporter.close()
    if not is_first:
        raise typer.Exit(EXIT_CODES.get(result.stopped_by, RUN_FAILED))
    _print_result(result, as_json=as_json)
    if profile and not as_json:
        _print_profile(result.run_dir)
    if result.stopped_by == "interrupted":
        again = how_to_resume(config, result.run_dir, overrides)
        fail(f"interrupted; the last checkpoint is saved. Go on with:\n  {again}", INTERRUPTED)
    if result.stopped_by is not None:
        fail(f"error: {_why(result, resolved, config, overrides)}", RUN_FAILED)


def how_to_resume(config: Path, run_dir: Path, overrides: Sequence[str]) -> str:
    """The command that goes on with a run."""
    sets = [word for override in overrides for word in ("--set", override)]
    return shlex.join(["agentrl", "train", str(config), "--run-dir", str(run_dir), "--resume", *sets])


def _why(result: TrainingResult, resolved: RunConfig, config: Path, overrides: Sequence[str]) -> str:
    """What stop.json says; where the disk refused it, the rule alone."""
    from agentrl.runs.files import STOP, read_json
    from agentrl.training.stopping import describe_stop

    if not (result.run_dir / STOP).exists():
        return f"stopped by the rule {result.stopped_by}; see {result.run_dir}"
    record = read_json(result.run_dir, STOP)
    if "ppo.learning_rate" not in record.get("repair", ""):
        return describe_stop(record, how_to_resume(config, result.run_dir, overrides))
    slower = [*overrides, f"ppo.learning_rate={resolved.ppo.learning_rate / 2:.2e}"]
    command = how_to_resume(config, result.run_dir, slower)
    return describe_stop(record, f"{command} --allow-change ppo.learning_rate")


def _print_profile(run_dir: Path) -> None:
    from agentrl.runs.files import read_json
    from agentrl.training.profile import PROFILE, format_profile

    if (run_dir / PROFILE).exists():
        print(f"\n{format_profile(read_json(run_dir, PROFILE))}", flush=True)


def _print_result(result: TrainingResult, *, as_json: bool) -> None:
    from agentrl.evaluation.table import format_sections
    from agentrl.progress import duration
    from agentrl.runs.files import to_json

    summary: dict[str, Any] = result.summary
    if as_json:
        print(to_json({"run_dir": str(result.run_dir), "stopped_by": result.stopped_by, **summary}, indent=2))
        return
    compared = {split: found for split, found in (summary.get("comparison") or {}).items() if found}
    if compared:
        print(format_sections(list(compared.items())), end="\n\n")
    for split, why in (summary.get("not_compared") or {}).items():
        print(f"{split}: not compared: {why}\n")
    cost = [f"{summary['steps']} steps"] if "steps" in summary else []
    cost += [duration(summary["wall_seconds"])] if "wall_seconds" in summary else []
    cost += [f"{summary['peak_rss_bytes'] / 1e9:.1f} GB at most"] if "peak_rss_bytes" in summary else []
    print(f"{', '.join(cost)}; run directory: {result.run_dir}" if cost else f"run directory: {result.run_dir}")
    sys.stdout.flush()
