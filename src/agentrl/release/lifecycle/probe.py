"""Whether a server answers right now: one short completion, which a cold or hanging server does not give."""

from __future__ import annotations

import os

import httpx

from agentrl.config.endpoint import url_problem
from agentrl.config.gateway import UpstreamConfig

PROBE_SECONDS = 30.0
"""What a warm server needs for one token is far less."""


def probe_upstream(upstream: UpstreamConfig, *, transport: httpx.BaseTransport | None = None) -> str:
    """What is wrong with a server; nothing where it is warm."""
    if problem := url_problem(upstream.url, allow_private=upstream.allow_private):
        return problem
    headers = {}
    if upstream.key_env is not None:
        if not (key := os.environ.get(upstream.key_env)):
            return f"the environment variable {upstream.key_env} is not set"
        headers["Authorization"] = f"Bearer {key}"
    ask = {"model": upstream.model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
    seconds = min(upstream.first_byte_seconds, PROBE_SECONDS)
    try:
        with (
            httpx.Client(timeout=seconds, follow_redirects=False, trust_env=False, transport=transport) as client,
            client.stream("POST", f"{upstream.url.rstrip('/')}/chat/completions", json=ask, headers=headers) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                return f"HTTP {answer.status_code}"
            first = next(answer.iter_bytes(), b"")
    except httpx.TimeoutException:
        return f"no answer within {seconds:g} s"
    except httpx.HTTPError as error:
        return type(error).__name__ + (f": {error}" if str(error) else "")
    return "" if first else "an empty answer"
