"""What verbs that train a stage have in common: a run directory, `--resume`, and how the result is told."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.cli.exits import INTERRUPTED, fail
from agentrl.cli.options import spare_the_cores
from agentrl.errors import ConfigError

if TYPE_CHECKING:
    from agentrl.stages.course import StageResult


def run_stage(
    verb: str,
    load: Callable[[Path, Sequence[str]], Any],
    config: Path,
    options: Mapping[str, Any],
    *,
    overrides: Sequence[str],
    as_json: bool,
) -> StageResult:
    """Load the config, run its stage, and print what came of it.

    Args:
        load: the loader of such configs.
        options: run_dir, resume and allow_change.
    """
    from agentrl.progress import duration, reporter_for
    from agentrl.runs.files import to_json

    if options["resume"] and options["run_dir"] is None:
        raise ConfigError("--resume needs to know the run: add --run-dir DIR")
    if options["allow_change"] and not options["resume"]:
        raise ConfigError("--allow-change is about a run that is gone on with: add --resume")
    resolved = load(config, overrides)  # before the slow imports: a typo is told at once
    spare_the_cores()
    reporter = reporter_for()
    try:
        result: StageResult = _runner(verb)(resolved, **options, reporter=reporter)
    finally:
        reporter.close()
    if as_json:
        print(to_json({"run_dir": str(result.run_dir), **result.summary}, indent=2))
    else:
        for line in _lines(result.summary) if result.stopped_by is None else ():
            print(line)
        took = duration(result.summary["wall_seconds"])
        print(f"{result.summary['steps']} steps, {took}; run directory: {result.run_dir}")
    sys.stdout.flush()
    if result.stopped_by is not None:
        sets = [word for override in overrides for word in ("--set", override)]
        again = ["agentrl", *verb.split(), str(config), "--run-dir", str(result.run_dir), "--resume", *sets]
        fail(f"interrupted; the last checkpoint is saved. Go on with:\n  {shlex.join(again)}", INTERRUPTED)
    return result


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a person wants to see of a summary; figures of validation as `before -> after`."""
    for key, value in summary.items():
        if value is None or key in ("name", "seed", "steps", "wall_seconds") or key.endswith("_before"):
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        before = summary.get(f"{key}_before")
        yield f"{key}: {text}" if before is None else f"{key}: {before:.4g} -> {text}"


def _runner(verb: str) -> Callable[..., StageResult]:
    """Imported when it is needed: it loads torch."""
    if verb == "sft":
        from agentrl.stages.sft import run_sft

        return run_sft
    if verb == "dpo":
        from agentrl.stages.dpo import run_dpo

        return run_dpo
    from agentrl.reward_model.training import run_reward_model

    return run_reward_model
