"""Listening: on this machine unless somebody sets a key."""

from __future__ import annotations

import socket
from contextlib import suppress

import uvicorn

from agentrl.addresses import is_loopback
from agentrl.errors import ConfigError
from agentrl.routes.app import Rules, create_app

WAITING = 512
"""Connections at once; further ones are answered 503."""
GRACE_SECONDS = 2
"""For requests that are being answered when it is told to stop."""


def serve(host: str, port: int, rules: Rules) -> None:
    """Print `listening on http://HOST:PORT` and answer until SIGTERM or SIGINT.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: other machines could reach it without a key, or the address is taken.
    """
    if rules.is_public and not rules.api_key:
        raise ConfigError(
            f"--host {host}: other machines can reach it, and no API key is set; "
            "set AGENTRL_API_KEY, or listen on 127.0.0.1"
        )
    app = create_app(rules)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({error})") from None
    # asyncio sets this on sockets whose protocol number says TCP, which this one's does not
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shown = f"[{host}]" if ":" in host else host
    print(f"listening on http://{shown}:{listener.getsockname()[1]}", flush=True)
    options = uvicorn.Config(
        app, log_level="warning", limit_concurrency=WAITING, timeout_graceful_shutdown=GRACE_SECONDS
    )
    with suppress(KeyboardInterrupt):  # the usual way to end it
        uvicorn.Server(options).run(sockets=[listener])


def is_public(host: str) -> bool:
    """Whether other machines can reach what listens there; a name counts as one that they can, unless it is ours."""
    return not is_loopback(host)
