"""`agentrl dpo`: learn from pairs of segments which one was better."""

from __future__ import annotations

from agentrl.cli.options import Config, Json, Set
from agentrl.cli.train import AllowChange, Resume, RunDir


def dpo(
    config: Config,
    run_dir: RunDir = None,
    resume: Resume = False,
    allow_change: AllowChange = [],  # noqa: B006  (typer reads the default)
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Learn from pairs of segments which one was better.

    `agentrl pairs` makes the pairs. Ctrl-C saves a checkpoint and says how to go on.
    """
    from agentrl.cli.stage import run_stage
    from agentrl.config import load_dpo_config

    options = {"run_dir": run_dir, "resume": resume, "allow_change": allow_change}
    run_stage("dpo", load_dpo_config, config, options, overrides=overrides, as_json=as_json)
