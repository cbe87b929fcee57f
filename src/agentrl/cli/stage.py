"""What `agentrl sft` and `agentrl dpo` have in common: a run directory, `--resume`, and how the result is told."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.cli.exits import INTERRUPTED, fail
from agentrl.errors import ConfigError

if TYPE_CHECKING:
    from agentrl.stages.course import StageResult


def run_stage(
    verb: str,
    load: Callable[[Path, Sequence[str]], Any],
    config: Path,
    run_dir: Path | None,
    *,
    resume: bool,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Load the config, run its stage, and print what came of it.

    Args:
        load: the loader of such configs.
    """
    from agentrl.progress import duration, reporter_for
    from agentrl.runs.files import to_json

    if resume and run_dir is None:
        raise ConfigError("--resume needs to know the run: add --run-dir DIR")
    resolved = load(config, overrides)  # before the slow imports: a typo is told at once
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    reporter = reporter_for()
    try:
        reporter.phase("loading checkpoint and data")
        result: StageResult = _runner(verb)(resolved, run_dir=run_dir, resume=resume, reporter=reporter)
    finally:
        reporter.close()
    if as_json:
        print(to_json({"run_dir": str(result.run_dir), **result.summary}, indent=2))
    else:
        for key, value in result.summary.items():
            if value is not None and key != "wall_seconds":
                print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
        print(f"{duration(result.summary['wall_seconds'])}; run directory: {result.run_dir}")
    sys.stdout.flush()
    if result.stopped_by is not None:
        sets = [word for override in overrides for word in ("--set", override)]
        again = ["agentrl", verb, str(config), "--run-dir", str(result.run_dir), "--resume", *sets]
        fail(f"interrupted; the last checkpoint is saved. Go on with:\n  {shlex.join(again)}", INTERRUPTED)


def _runner(verb: str) -> Callable[..., StageResult]:
    """Imported when it is needed: it loads torch."""
    if verb == "sft":
        from agentrl.stages.sft import run_sft

        return run_sft
    from agentrl.stages.dpo import run_dpo

    return run_dpo
