"""Connections to vetted addresses only: a name is resolved once, and what was vetted is what is connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from agentrl.addresses import address_problem, is_this_machine, plain_address
from agentrl.endpoint.body import read_limited

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


class OneWrite(httpcore.AsyncNetworkStream):
    """Sends head and body of a request together: httpcore writes them one by one, and each would wake the server."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._unsent = bytearray()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002  (sent by `read`)
        self._unsent += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            unsent, self._unsent = bytes(self._unsent), bytearray()
            with suppress(httpcore.WriteError):  # who refuses a request while it is sent may have said why
                await self._stream.write(unsent, timeout)
        return await self._stream.read(max_bytes, timeout)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return OneWrite(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


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
        addresses = await self.vetted(host, port)
        for address in addresses:
            is_last = address == addresses[-1]
            try:
                limit = timeout if is_last else NEXT_ADDRESS_SECONDS
                return OneWrite(await self._network.connect_tcp(address, port, limit, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if is_last:
                    self._known = ("", 0.0, [])
                    raise
        raise AddressRefused(f"{host} has no address")

    async def vetted(self, host: str, port: int) -> list[str]:
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


@dataclass(frozen=True)
class Received:
    """What came back."""

    status: int
    retry_after: str | None
    """The header of that name."""
    raw: bytes
    is_cut: bool
    """The body was over the limit and is not complete."""
    has_stray: bool = False
    """More followed the reply than the reply: another one, that nobody asked for."""


class Line(Protocol):
    """Carries one request at a time."""

    async def connect(self) -> None: ...

    async def exchange(self, content: bytes, headers: httpx.Headers) -> Received: ...

    async def aclose(self) -> None: ...


class Connection:
    """An HTTP/1.1 connection, made at its first request and again where it was lost.

    One shared pool of n connections costs n^2 steps a request (httpcore 1.0): with 64, four times the CPU time. And a
    pool hands a connection on with whatever a server sent behind its reply: the next call would read it as its own.
    There is nothing here that follows a redirect or keeps a cookie from one rollout to the next.
    """

    def __init__(self, url: httpx.URL, network: VettedNetwork, tls: ssl.SSLContext | None) -> None:
        self._network = network
        self._tls = tls
        port = url.port or (443 if tls else 80)
        self._url = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=url.raw_path)
        self._host_header = url.netloc.decode("ascii")
        self._http: httpcore.AsyncHTTP11Connection | None = None

    async def connect(self) -> None:
        """Make the connection, unless it is there."""
        await self._connected()

    async def exchange(self, content: bytes, headers: httpx.Headers) -> Received:
        http = await self._connected()
        sent = [("Host", self._host_header), *headers.items(), ("Content-Length", str(len(content)))]
        response = await http.handle_async_request(httpcore.Request("POST", self._url, headers=sent, content=content))
        try:
            answered = httpx.Headers(response.headers)
            raw, is_cut = await read_limited(answered.get("Content-Encoding"), response.aiter_stream())
            has_stray = bool(http._h11_state.trailing_data[0])  # no public name leads there (httpcore 1.0)
        finally:
            await response.aclose()
        if has_stray:
            await self.aclose()
        return Received(response.status, answered.get("Retry-After"), raw, is_cut, has_stray)

    async def _connected(self) -> httpcore.AsyncHTTP11Connection:
        if self._http is not None and self._http.is_available() and not self._http.has_expired():
            return self._http
        await self.aclose()
        origin = self._url.origin
        host = origin.host.decode("ascii")
        stream = await self._network.connect_tcp(host, origin.port)
        try:
            if self._tls is not None:
                stream = await stream.start_tls(self._tls, server_hostname=host)
        except BaseException:
            await stream.aclose()
            raise
        self._http = httpcore.AsyncHTTP11Connection(origin=origin, stream=stream, keepalive_expiry=KEEPALIVE_SECONDS)
        return self._http

    async def aclose(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


class Relay:
    """Requests through an httpx transport: a proxy, or a stand-in for the network."""

    def __init__(self, url: httpx.URL, transport: httpx.AsyncBaseTransport) -> None:
        self._url = url
        self._transport = transport

    @classmethod
    def proxy(cls, url: httpx.URL, proxy: str, tls: ssl.SSLContext | None) -> Relay:
        limits = httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)
        verify = tls if tls is not None else False
        return cls(url, httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits, proxy=proxy))

    async def connect(self) -> None:
        """There is nothing to make: a proxy's connection says nothing about who is behind it."""

    async def exchange(self, content: bytes, headers: httpx.Headers) -> Received:
        request = httpx.Request("POST", self._url, headers=headers, content=content)
        response = await self._transport.handle_async_request(request)
        try:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            raw, is_cut = await read_limited(response.headers.get("Content-Encoding"), response.stream)
        finally:
            await response.aclose()
        return Received(response.status_code, response.headers.get("Retry-After"), raw, is_cut)

    async def aclose(self) -> None:
        await self._transport.aclose()


def tls_context() -> ssl.SSLContext:
    """Checks certificates; SSL_CERT_FILE and SSL_CERT_DIR of the environment name who is trusted."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
