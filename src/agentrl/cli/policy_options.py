"""Whose rollouts a verb makes: --policy for weights, --api-model with its address for a model behind an API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agentrl.evaluation.contender import PolicySource

Policy = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="Weights to measure: baseline, a checkpoint's folder, or RUN@baseline, RUN@best, RUN@final, RUN@STEP.  "
        "[default: baseline]",
    ),
]
ApiModel = Annotated[
    str | None, typer.Option(metavar="NAME", help="Measure this model of an OpenAI-compatible API instead.")
]
ApiUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Base address of that API, such as http://127.0.0.1:8000/v1.")
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Environment variable that holds its key.  [default: OPENAI_API_KEY at api.openai.com, else no key]",
    ),
]


def policy_source(
    policy: str | None, api_model: str | None, api_url: str | None, api_key_env: str | None
) -> PolicySource:
    """Who these options mean; the baseline where none is given.

    Raises:
        ConfigError: they contradict each other or lack something, or there are no such weights.
    """
    from agentrl.errors import ConfigError
    from agentrl.evaluation.contender import BASELINE, PolicySource

    if api_model is None:
        for option, value in (("--api-url", api_url), ("--api-key-env", api_key_env)):
            if value is not None:
                raise ConfigError(f"{option}: says where an API is, but not which model; add --api-model NAME")
        try:
            return PolicySource.find(BASELINE if policy is None else policy)
        except ConfigError as error:
            raise ConfigError(f"--policy {error}") from None
    if policy is not None:
        raise ConfigError("--policy and --api-model: found both; allowed: one of them, as one policy is measured")
    if api_url is None:
        raise ConfigError(
            f"--api-model {api_model}: found no --api-url; add the server's base address, such as "
            "http://127.0.0.1:8000/v1 or https://api.openai.com/v1"
        )
    return PolicySource.of_api(api_model, api_url, api_key_env)
