"""Connections to vetted addresses only: a name is resolved once, and what was vetted is what is connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from agentrl.addresses import address_problem, is_this_machine, plain_address

# Servers such as uvicorn close an idle connection after 5 s; letting go first avoids writing into a closing one.
KEEPALIVE_SECONDS = 3.0
RESOLVED_SECONDS = 30.0
"""A name's addresses are kept that long, or until none of them answers."""
NEXT_ADDRESS_SECONDS = 3.0
"""For one of several addresses, before the next is tried."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class AddressRefused(httpcore.ConnectError):
    """The host leads to addresses that must not be called."""


async def system_resolver(host: str, port: int) -> list[str]:
    """The addresses of a name, the preferred one first."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class VettedNetwork(httpcore.AsyncNetworkBackend):
    """TCP connections for httpcore. TLS still checks the certificate against the name.

    Args:
        resolve: looks names up, for tests.
    """

    def __init__(self, *, allow_private: bool, resolve: Resolve = system_resolver) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()
        self._known: tuple[str, float, list[str]] = ("", 0.0, [])
        self._one_lookup = asyncio.Lock()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._vetted(host, port)
        for address in addresses:
            is_last = address == addresses[-1]
            try:
                return await self._network.connect_tcp(
                    address, port, timeout if is_last else NEXT_ADDRESS_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if is_last:
                    self._known = ("", 0.0, [])
                    raise
        raise AddressRefused(f"{host} has no address")

    async def _vetted(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be called.

        Raises:
            AddressRefused: there is none.
        """
        if plain_address(host) is not None:
            return self._allowed(host, [host], is_loopback_meant=True)
        async with self._one_lookup:
            name, until, addresses = self._known
            if name == host and time.monotonic() < until:
                return addresses
            try:
                found = await self._resolve(host, port)
            except OSError as error:
                raise httpcore.ConnectError(str(error)) from error
            addresses = self._allowed(host, found, is_loopback_meant=is_this_machine(host))
            self._known = (host, time.monotonic() + RESOLVED_SECONDS, addresses)
            return addresses

    def _allowed(self, host: str, found: Iterable[str], *, is_loopback_meant: bool) -> list[str]:
        allowed, problems = [], []
        for text in found:
            if (address := plain_address(text)) is None:
                continue
            problem = address_problem(address, allow_private=self._allow_private, is_loopback_meant=is_loopback_meant)
            if problem:
                problems.append(problem)
            else:
                allowed.append(text)
        if not allowed:
            raise AddressRefused(f"{host}: {'; '.join(problems) or 'no address'}")
        return allowed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def environment_proxy(url: httpx.URL) -> str | None:
    """The proxy that the environment names for a URL. Names are then resolved, and to be vetted, by the proxy."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def connection(network: VettedNetwork, *, verify: ssl.SSLContext | bool, proxy: str | None) -> httpx.AsyncHTTPTransport:
    """A transport that holds one connection at a time."""
    limits = httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)
    transport = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits, proxy=proxy)
    if proxy is None:  # httpx lets nobody choose the network below its pool
        transport._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify if isinstance(verify, ssl.SSLContext) else None,
            max_connections=1,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=network,
        )
    return transport
