"""`agentrl check`: is the config good, and what does it come to with every default written out?"""

from __future__ import annotations

import sys

from agentrl.cli.options import Config, Json, Set


def check(config: Config, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006  (typer reads the default)
    """Validate a config and print it in full.

    Starts nothing, and loads no GPU stack. Knows configs of `train`, `sft`, `dpo` and `reward-model train`.
    """
    import json

    from agentrl.config import RunConfig, load_any_config, missing_for_training, to_yaml

    resolved = load_any_config(config, overrides)
    if as_json:
        print(json.dumps(resolved.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        print(to_yaml(resolved), end="")
    if isinstance(resolved, RunConfig) and (missing := missing_for_training(resolved)):
        print(f"{config}: good as it is; `agentrl train` still needs: {', '.join(missing)}", file=sys.stderr)
