"""Which server, model and key a judge means, going by its declaration and the environment.

A declaration that says nothing of it, such as one that was written for OpenAI, means OpenAI, unless the environment
points elsewhere: AGENTRL_JUDGE_BASE_URL, AGENTRL_JUDGE_MODEL and AGENTRL_JUDGE_API_KEY.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from agentrl.config.graders.judge import JudgeConfig, url_is_openai
from agentrl.endpoint import Endpoint, served_url
from agentrl.errors import ConfigError
from agentrl.grading.surroundings import Surroundings

OPENAI = "https://api.openai.com/v1"
BASE_URL, MODEL, API_KEY = "AGENTRL_JUDGE_BASE_URL", "AGENTRL_JUDGE_MODEL", "AGENTRL_JUDGE_API_KEY"
PATH = "/chat/completions"
KEY_HEADERS = ("authorization", "api-key", "x-api-key")


@dataclass(frozen=True)
class Connection:
    """Where a judge is asked."""

    name: str
    """For messages."""
    base_url: str
    """As declared, so that a served judge has one version whatever its port."""
    model: str
    headers: dict[str, str] = field(repr=False)
    allow_private: bool
    """An address that the environment gives is meant."""

    @property
    def is_openai(self) -> bool:
        return url_is_openai(self.base_url)

    @property
    def content(self) -> dict[str, str]:
        """What of it decides scores."""
        return {"base_url": self.base_url, "model": self.model}

    def open(self, config: JudgeConfig, around: Surroundings) -> Endpoint:
        """The endpoint of its chat completions.

        Raises:
            ConfigError: it must not be called, or a variable that a header names is not set.
        """
        url = served_url(self.name, self.base_url, around.base_url).rstrip("/").removesuffix(PATH) + PATH
        options: dict[str, Any] = {**config.call_options}
        options["allow_private"] = options["allow_private"] or self.allow_private
        return Endpoint(self.name, url, self.headers, transport=around.transport, **options)


def connect(name: str, model: str, config: JudgeConfig) -> Connection:
    """The connection that a declaration means here and now.

    Raises:
        ConfigError: the key's variable is not set.
    """
    given = os.environ.get(BASE_URL, "")
    base_url = config.base_url or given or OPENAI
    headers = dict(config.headers)
    if not any(header.lower() in KEY_HEADERS for header in headers) and (key := _key(name, base_url, config)):
        headers["Authorization"] = f"Bearer ${{{key}}}"
    return Connection(
        name=name,
        base_url=base_url,
        model=config.model or os.environ.get(MODEL) or model,
        headers=headers,
        allow_private=config.base_url is None and bool(given),
    )


def _key(name: str, base_url: str, config: JudgeConfig) -> str:
    """The variable that holds the key; empty where none is sent."""
    if config.api_key_env is not None:
        return config.api_key_env
    if not url_is_openai(base_url):
        return API_KEY if os.environ.get(API_KEY) else ""
    if not os.environ.get("OPENAI_API_KEY"):
        raise ConfigError(
            f"{name}: the environment variable 'OPENAI_API_KEY' is not set; set it, or name another server in "
            f"{BASE_URL} or `judge.base_url`"
        )
    return "OPENAI_API_KEY"
