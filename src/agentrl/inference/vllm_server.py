"""One vLLM server over HTTP: its connections, the routes that agentrl uses, and what they answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from agentrl.endpoint import excerpt
from agentrl.endpoint.address import is_local, resolve_headers, usable_url

HEALTH_SECONDS = 5.0
CONNECT_SECONDS = 10.0  # a machine that is switched off refuses nothing
# vLLM's uvicorn closes an idle connection after 5 s; letting go first avoids writing into a closing one.
KEEPALIVE_SECONDS = 3.0
WITHOUT_DEV_ROUTES = "start the server with the environment variable VLLM_SERVER_DEV_MODE=1"
WITHOUT_LORA_ROUTES = (
    "start the server with --enable-lora and the environment variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
)


class ServerLost(Exception):
    """No answer, or one that says that the server is in trouble: worth another try, perhaps elsewhere."""


class ServerRefused(Exception):
    """The server understood and said no; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Completion:
    """What one request came to."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_logprobs: tuple[float, ...]
    """Of the prompt's tokens but the first, before temperature; empty where they were not asked for."""


@dataclass(frozen=True)
class ServedModel:
    """The base model as `/v1/models` lists it."""

    name: str
    max_context_tokens: int
    adapters: tuple[str, ...]


class VLLMServer:
    """Use it from one event loop, then `aclose`.

    Args:
        url: without a slash at the end.
        headers: `${NAME}` is replaced from the environment here, once.
        timeout_seconds: deadline of one request, from connecting to the last byte.
        max_concurrency: completions in flight; more wait here.
        transport: replaces the network in tests.

    Raises:
        ConfigError: an unusable URL, an unset environment variable, a secret that would travel in clear text.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float,
        max_concurrency: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        resolved = resolve_headers("inference", headers)
        parsed = usable_url("inference.url", url, has_secrets=bool(resolved.secrets))
        self.url = str(parsed.copy_with(query=None, fragment=None)).rstrip("/")
        self._secrets = resolved.secrets
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(max_concurrency)
        self._idle: list[httpx.AsyncClient] = []
        self._client_options: dict[str, Any] = {
            "base_url": self.url,
            "headers": resolved.values,
            "transport": transport,
            "timeout": httpx.Timeout(None, connect=CONNECT_SECONDS),  # asyncio.timeout is the deadline of the whole
            "limits": httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_SECONDS),
            "verify": httpx.create_ssl_context() if parsed.scheme == "https" else False,  # once, not a connection
            "trust_env": not is_local(parsed.host),
        }

    def __repr__(self) -> str:
        return f"VLLMServer({self.url!r})"

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    async def is_healthy(self) -> bool:
        try:
            await self._request("GET", "/health", timeout_seconds=HEALTH_SECONDS)
        except (ServerLost, ServerRefused):
            return False
        return True

    async def served_model(self, name: str | None) -> ServedModel:
        """The base model of that name, or the only one.

        Raises:
            ServerRefused: there is none of that name.
        """
        listed = (await self._request("GET", "/v1/models"))["data"]
        bases = [each for each in listed if each.get("parent") is None]
        found = next((each for each in bases if name in (None, each["id"])), None)
        if found is None:
            names = ", ".join(each["id"] for each in bases)
            raise ServerRefused(f"{self.url} serves no model '{name}'; inference.model may be {names}, or null", 404)
        adapters = tuple(each["id"] for each in listed if each.get("parent") is not None)
        return ServedModel(found["id"], found["max_model_len"], adapters)

    async def complete(self, body: Mapping[str, Any], prompt: Sequence[int]) -> Completion:
        """POST /v1/completions with token ids, for token ids and log-probabilities.

        This route is there in every vLLM without further flags, and so are its `return_token_ids`;
        /inference/v1/generate spares the server the text, but must be switched on.
        """
        async with self._slots:
            asked = {**body, "prompt": list(prompt), "return_token_ids": True, "logprobs": 0}
            reply = await self._request("POST", "/v1/completions", asked)
        try:
            choice = reply["choices"][0]
            if choice["finish_reason"] not in ("stop", "length"):
                raise ServerLost(f"{self.url} broke a generation off: {choice['finish_reason']}")
            token_ids, logprobs = tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"])
            scored = zip(prompt, choice.get("prompt_logprobs") or (), strict=False)
            before = tuple(entry[str(token)]["logprob"] for token, entry in scored if entry is not None)
        except (KeyError, IndexError, TypeError) as error:
            raise ServerRefused(
                f"{self.url} answered a completion without token ids or log-probabilities ({error!r}); "
                "its vLLM is too old, or a proxy before it takes them out",
                200,
            ) from error
        if not token_ids or len(token_ids) != len(logprobs):
            raise ServerRefused(f"{self.url} sent {len(token_ids)} tokens with {len(logprobs)} log-probabilities", 200)
        return Completion(token_ids, logprobs, before)

    async def load_adapter(self, name: str, path: Path) -> None:
        """From now on requests for model `name` are answered with the adapter at `path`, which the server reads."""
        try:
            await self._admin("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, WITHOUT_LORA_ROUTES)
        except ServerRefused as error:
            if "already been loaded" not in str(error):  # by an attempt whose answer was lost; names are used once
                raise

    async def unload_adapter(self, name: str) -> None:
        await self._admin("/v1/unload_lora_adapter", {"lora_name": name}, WITHOUT_LORA_ROUTES)

    async def reload_weights(self, name: str, path: Path) -> None:
        """Replace all weights by those at `path`; requests in flight finish before, later ones wait."""
        await self._admin("/pause?mode=wait", None, WITHOUT_DEV_ROUTES)
        try:
            reload = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
            await self._admin("/collective_rpc", reload, WITHOUT_DEV_ROUTES)
            await self._admin("/update_weight_version", {"new_version": name}, WITHOUT_DEV_ROUTES)
            if not await self.reset_prefix_cache():
                raise ServerRefused(f"{self.url} did not reset its prefix cache after new weights were loaded", 200)
        finally:
            await self._admin("/resume", None, WITHOUT_DEV_ROUTES)

    async def loaded_weights(self) -> str:
        """The name that `reload_weights` was last given; a restarted server has forgotten it."""
        return str((await self._request("GET", "/weight_info"))["weight_version"])

    async def reset_prefix_cache(self) -> bool:
        """Forget cached keys and values; False where running requests hold some."""
        reply = await self._admin("/reset_prefix_cache", None, WITHOUT_DEV_ROUTES)
        return bool((reply or {}).get("success", True))  # older servers answer nothing

    async def _admin(self, path: str, body: Any, missing: str) -> Any:
        try:
            return await self._request("POST", path, body)
        except ServerRefused as error:
            if error.status in (404, 405) and "error" not in str(error):  # the route, not what it was asked for
                raise ServerRefused(f"{self.url} has no route {path.partition('?')[0]}; {missing}", 404) from error
            raise
        except ServerLost as error:
            if "answered 500" in str(error) and await self.is_healthy():  # how vLLM says that it cannot do this
                raise ServerRefused(str(error), 500) from error
            raise

    async def _request(self, method: str, path: str, body: Any = None, *, timeout_seconds: float | None = None) -> Any:
        """The JSON of a 2xx answer, None where there is none."""
        seconds = timeout_seconds or self._timeout_seconds
        try:
            async with asyncio.timeout(seconds), self._connection() as client:
                response = await client.request(method, path, json=body)
        except TimeoutError as error:
            raise ServerLost(f"{self.url}{path} did not answer within {seconds:g} s") from error
        except httpx.HTTPError as error:
            raise ServerLost(f"{self.url} cannot be reached ({type(error).__name__}: {error})") from error
        text = response.text
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        answered = f"{self.url}{path} answered {response.status_code}{excerpt(text)}"
        if response.status_code == 429 or response.status_code >= 500:
            raise ServerLost(answered)
        if not response.is_success:
            raise ServerRefused(answered, response.status_code)
        try:
            return json.loads(text) if text.startswith(("{", "[")) else None
        except ValueError as error:
            raise ServerLost(f"{answered}, which is no JSON") from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of one connection, which a cancelled request closes: the server then stops generating for it."""
        client = self._idle.pop() if self._idle else httpx.AsyncClient(**self._client_options)
        try:
            yield client
        except BaseException:
            await client.aclose()
            raise
        self._idle.append(client)
