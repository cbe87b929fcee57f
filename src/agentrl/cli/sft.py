"""`agentrl sft`: make the baseline that reinforcement starts from."""

from __future__ import annotations

import json

from agentrl.cli.options import Config, Json, Set


def sft(config: Config, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006  (typer reads the default)
    """Make a baseline: fine-tune on conversations.

    The loss is on assistant tokens only.
    """
    from agentrl.config import load_sft_config

    resolved = load_sft_config(config, overrides)  # before the slow imports: a typo is told at once

    from agentrl.stages.sft import run_sft

    result = run_sft(resolved)
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for key, value in result.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
