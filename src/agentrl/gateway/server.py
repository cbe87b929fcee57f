"""Listening: for clients, and on another port for operators; both end together."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from agentrl.config import RunConfig, TrackingConfig
from agentrl.errors import ConfigError
from agentrl.gateway.admin import AdminApp
from agentrl.gateway.app import ClientsApp
from agentrl.gateway.gateway import Gateway
from agentrl.gateway.kept_content import KeptContent
from agentrl.gateway.policy_kl import PolicyKl
from agentrl.gateway.prompt_heads import PromptHeads
from agentrl.gateway.shadow import Shadow
from agentrl.gateway.shadow.wiring import shadow_of
from agentrl.gateway.telling import SessionExport
from agentrl.monitoring.redaction import redact_logs
from agentrl.release.place import open_place

GRACE_SECONDS = 10
"""For answers under way when it is told to stop; then they are cut."""
KEEPALIVE_SECONDS = 75
"""For a client's idle connection: longer than most load balancers keep theirs."""
BACKLOG = 2048
SWITCH_SECONDS = 0.0005
"""The ledger's thread computes, too: with Python's own 5 ms an answer would wait that long for its turn."""


Beside = Shadow | PolicyKl | KeptContent | SessionExport


class Server(uvicorn.Server):
    """Two of them share a loop, so that neither may take the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(config: RunConfig) -> None:
    """Print the addresses and answer until SIGTERM or SIGINT.

    Raises:
        ConfigError: a section or a key is missing, a door is open, an address is taken or must not be called.
        ReleaseError: the database cannot be reached.
    """
    if config.gateway is None:
        raise ConfigError(
            "the config has no `gateway` section; the shortest: `gateway: {upstreams: ..., general: ...}`"
        )
    redact_logs()
    place = open_place(config)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        gateway = Gateway(config.gateway, place)
        if config.tools is not None and config.tools.policy is not None:
            gateway.ask_before_calls(config.tools.policy)
        shadow = shadow_of(gateway, config)
        beside: list[Beside] = [shadow]
        if config.gateway.keep_content:
            beside.append(kept := KeptContent(place))
            gateway.watch([kept])
        if policy_kl := policy_kl_of(gateway):
            beside.append(policy_kl)
        if config.tracking is not None and config.tracking.opentelemetry is not None:
            beside.append(export_of(gateway, config.tracking))
        clients = listener("gateway", config.gateway.host, config.gateway.port)
        admin = listener("gateway.admin", config.gateway.admin_host, config.gateway.admin_port)
        with suppress(KeyboardInterrupt):
            asyncio.run(run(gateway, clients, admin, beside=beside, say=lambda line: print(line, flush=True)))
    finally:
        place.store.close()


async def run(
    gateway: Gateway,
    clients: socket.socket,
    admin: socket.socket,
    *,
    beside: Sequence[Beside] = (),
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Answer on two sockets until a signal comes.

    Args:
        beside: what watches turns or sessions, and begins and ends with the gateway.
    """
    servers = [
        (Server(_options(ClientsApp(gateway))), clients),
        (Server(_options(AdminApp(gateway))), admin),
    ]

    def stop() -> None:
        gateway.is_draining = True
        for server, _ in servers:
            server.should_exit = True
        loop.call_later(GRACE_SECONDS - 1, gateway.flights.cut_all)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await gateway.start()
    for each in beside:
        each.start()
    try:
        say(f"{gateway.workflow} on http://{shown(clients)}/v1, admin on http://{shown(admin)} (Ctrl-C ends it)")
        await asyncio.gather(*(server.serve(sockets=[socket]) for server, socket in servers))
    finally:
        for each in beside:
            await each.aclose()
        await gateway.aclose()


def policy_kl_of(gateway: Gateway) -> PolicyKl | None:
    """What measures the KL of live sessions; None where the config wants none."""
    if not gateway.config.policy_kl_fraction:
        return None
    measured = PolicyKl(gateway.upstreams, gateway.config, gateway.place.store, clock=gateway.clock)
    gateway.watch([measured.watch])
    gateway.status_of["policy_kl"] = measured.counts.as_dict
    return measured


def export_of(gateway: Gateway, tracking: TrackingConfig) -> SessionExport:
    """What tells a collector of sessions that are recorded.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    exported = SessionExport(tracking, gateway.place.folder)
    gateway.closing.tell = exported.tell
    gateway.status_of["opentelemetry"] = exported.status
    gateway.gauges_of.append(exported.gauges)
    return exported


def listener(where: str, host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is taken, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0  # that of getaddrinfo is negative
        reason = os.strerror(number) if number > 0 else str(error)
        raise ConfigError(f"{where}: cannot listen on {host}:{port} ({reason}); port 0 takes a free one") from None
    # asyncio sets this on sockets whose protocol number says TCP, which this one's does not
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def shown(listening: socket.socket) -> str:
    """host:port of a socket."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _options(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PromptHeads,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
