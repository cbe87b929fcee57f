"""Listening: on this machine, unless somebody says that others may look."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn

from agentrl.addresses import is_loopback
from agentrl.errors import ConfigError
from agentrl.ui.app import create_app

GRACE_SECONDS = 2
"""For requests that are being answered when it is told to stop."""


def serve(runs_dir: Path, host: str, port: int, *, to_others: bool) -> None:
    """Print the address and answer until SIGTERM or SIGINT.

    Args:
        port: 0 takes a free one.
        to_others: other machines may look.

    Raises:
        ConfigError: there is no such directory, other machines could look unasked, or the address is taken.
    """
    if not runs_dir.is_dir():
        what = "is a file" if runs_dir.exists() else "does not exist"
        raise ConfigError(f"{runs_dir} {what}; give the directory that your runs lie in, such as runs")
    is_public = not is_loopback(host)
    if is_public and not to_others:
        raise ConfigError(
            f"--host {host}: other machines could read every run and label episodes, as nobody is asked for a "
            f"password. Leave --host out and tunnel (ssh -L {port}:127.0.0.1:{port} THIS-MACHINE), or add --to-others"
        )
    hosts = (
        frozenset({host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}) if is_public else frozenset()
    )
    app = create_app(runs_dir, hosts=hosts)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0  # that of getaddrinfo is negative
        reason = os.strerror(number) if number > 0 else str(error)
        hint = "; --port 0 takes a free one" if port else ""
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({reason}){hint}") from None
    # asyncio sets this on sockets whose protocol number says TCP, which this one's does not
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shown = f"[{host}]" if ":" in host else host
    print(f"runs of {runs_dir} on http://{shown}:{listener.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    options = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
    with suppress(KeyboardInterrupt):  # the usual way to end it
        uvicorn.Server(options).run(sockets=[listener])
