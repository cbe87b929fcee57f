"""Which model behind which OpenAI-compatible API, as a user names it; the key is an environment variable's name."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from agentrl.config import InferenceConfig
from agentrl.config.graders.judge import CREDENTIAL, VARIABLE, url_is_openai
from agentrl.endpoint import Endpoint
from agentrl.errors import ConfigError

PATH = "/chat/completions"
RETRIES = 6
"""At least: rate limits are ordinary here."""
HASTY_RETRIES = 1
"""Where a user waits for the answer."""


@dataclass(frozen=True)
class ApiAddress:
    """Which model, and where."""

    model: str
    url: str
    """Base address, such as https://api.openai.com/v1."""
    key_env: str = ""
    """The environment variable that holds the key; empty for none."""

    @classmethod
    def read(cls, model: str, url: str, key_env: str | None = None) -> ApiAddress:
        """The address that a user gave.

        Args:
            url: with or without /chat/completions.
            key_env: None is OPENAI_API_KEY at api.openai.com, and elsewhere no key.

        Raises:
            ConfigError: it must not be called, or the variable is not set. No key is shown.
        """
        if not model.strip():
            raise ConfigError("API model: found an empty name; allowed: a name that the server knows")
        where = f"API model {model}"
        if key_env is not None and (not VARIABLE.fullmatch(key_env) or CREDENTIAL.fullmatch(key_env)):
            allowed = "the name of an environment variable in capitals, such as OPENAI_API_KEY, never the key itself"
            raise ConfigError(f"{where}: found another text (not shown) as the name of its key; allowed: {allowed}")
        if "?" in url or "#" in url:
            raise ConfigError(f"{where}: found an address with a query (not shown); allowed: one without")
        url = url.rstrip("/").removesuffix(PATH)
        address = cls(model, url, key_env or ("OPENAI_API_KEY" if url_is_openai(url) else ""))
        address.endpoint(InferenceConfig())  # it refuses what it could not call
        return address

    @property
    def is_openai(self) -> bool:
        return url_is_openai(self.url)

    @property
    def host(self) -> str:
        """Name and port."""
        return urlsplit(self.url).netloc

    def endpoint(
        self, config: InferenceConfig, transport: httpx.AsyncBaseTransport | None = None, *, retries: int | None = None
    ) -> Endpoint:
        """Where its chat completions are asked for.

        Args:
            retries: None is the config's, and at least 6.

        Raises:
            ConfigError: it must not be called, or the key is not set.
        """
        return Endpoint(
            f"API model {self.model}",
            self.url + PATH,
            {"Authorization": f"Bearer ${{{self.key_env}}}"} if self.key_env else {},
            timeout_seconds=config.timeout_seconds,
            total_timeout_seconds=2 * config.timeout_seconds,
            retries=max(config.retries, RETRIES) if retries is None else retries,
            max_concurrency=config.max_batch,
            allow_private=True,  # whoever gives an address of a private network means it
            transport=transport,
        )
