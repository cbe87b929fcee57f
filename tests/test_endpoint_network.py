"""Where a connection really goes: names are looked up once, vetted, and only vetted addresses are connected to."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrl.endpoint import Endpoint, EndpointFailure, Reply
from agentrl.endpoint.network import environment_proxy
from agentrl.errors import ConfigError

BODY = b'{"output": "fine"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Listener:
    """A server that keeps what it was sent."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(2)
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.serve, host, 0, ssl=tls)
        yield server.sockets[0].getsockname()[1]
        server.close()


class Names:
    """A name server with a script: the n-th question gets the n-th answer, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = answers
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:  # noqa: ARG002  (what every resolver takes)
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


async def post(url: str, names: Names, calls: int = 1, **options: Any) -> Reply:
    settings: dict[str, Any] = {"timeout_seconds": 5, "retries": 0, "max_concurrency": 1} | options
    endpoint = Endpoint("tool search", url, {"Authorization": "Bearer planted-canary"}, resolve=names, **settings)
    try:
        for _ in range(calls - 1):
            await endpoint.post({}, rollout_id="trace_1")
        return await endpoint.post({}, rollout_id="trace_1")
    finally:
        await endpoint.aclose()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1"])
def test_a_name_that_leads_inside_is_refused_at_connect_and_not_tried_again(address: str) -> None:
    async def run() -> None:
        names = Names([address])
        with pytest.raises(EndpointFailure, match=r"tools\.internal: found ") as caught:
            await post("http://tools.internal:9/", names, retries=3)
        assert (caught.value.attempts, names.asked) == (1, 1)
        assert "canary" not in str(caught.value)

    asyncio.run(run())


def test_a_name_that_leads_inside_is_called_where_that_is_asked_for() -> None:
    async def run() -> None:
        server = Listener()
        async with server.listening() as port:
            reply = await post(f"http://tools.internal:{port}/x?k=1", Names(["127.0.0.1"]), allow_private=True)
        assert reply.status == 200
        assert server.heads[0].startswith(b"POST /x?k=1 HTTP/1.1\r\n")
        assert f"host: tools.internal:{port}\r\n".encode() in server.heads[0].lower()

    asyncio.run(run())


def test_no_leave_opens_the_metadata_service() -> None:
    with pytest.raises(EndpointFailure, match="metadata"):
        asyncio.run(post("http://tools.internal/", Names(["169.254.169.254"]), allow_private=True))


def test_a_name_that_moves_inside_after_the_check_is_not_followed() -> None:
    """DNS rebinding: the vetted address is the one that is connected to, and a new answer is vetted again."""

    async def run() -> None:
        server = Listener()
        async with server.listening() as port:
            names = Names(["192.0.2.1"], ["127.0.0.1"])  # TEST-NET-1: neither answer may be called
            with pytest.raises(EndpointFailure, match=r"192\.0\.2\.1, which is no public address"):
                await post(f"http://tools.internal:{port}/", names)
            with pytest.raises(EndpointFailure, match=r"127\.0\.0\.1, this machine"):
                await post(f"http://tools.internal:{port}/", names)
            assert server.connections == 0
            vetted = Names(["127.0.0.1"], ["169.254.169.254"])
            reply = await post(f"http://tools.internal:{port}/", vetted, calls=3, allow_private=True)
            assert (reply.status, vetted.asked) == (200, 1)

    asyncio.run(run())


def test_refused_addresses_are_left_out_and_the_next_one_is_tried() -> None:
    async def run() -> None:
        server = Listener()
        async with server.listening() as port:
            names = Names(["169.254.169.254", "127.0.0.9", "127.0.0.1"])  # nobody listens on the second
            assert (await post(f"http://tools.internal:{port}/", names, allow_private=True)).status == 200

    asyncio.run(run())


def test_localhost_has_to_be_this_machine() -> None:
    async def run() -> None:
        server = Listener()
        async with server.listening() as port:
            assert (await post(f"http://localhost:{port}/", Names(["::1", "127.0.0.1"]))).status == 200
            with pytest.raises(EndpointFailure, match="private network"):
                await post(f"http://localhost:{port}/", Names(["10.0.0.1"]))

    asyncio.run(run())


def test_a_name_that_nobody_knows_is_tried_again_and_named() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    async def run() -> None:
        async def no_pause(_: float) -> None: ...

        with pytest.raises(EndpointFailure, match="Name or service not known") as caught:
            await post("http://tools.internal/", unknown, retries=2, sleep=no_pause)  # type: ignore[arg-type]
        assert (caught.value.kind, caught.value.attempts) == ("connect", 3)

    asyncio.run(run())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_goes_nowhere_and_takes_no_header_along(status: int) -> None:
    async def run() -> None:
        inside = Listener()
        async with inside.listening() as inner_port:
            location = f"http://127.0.0.1:{inner_port}/"
            outside = Listener(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
            async with outside.listening() as port:
                with pytest.raises(EndpointFailure, match=f"answered {status}; redirects are not followed"):
                    await post(f"http://127.0.0.1:{port}/", Names([]), retries=3)
        assert (outside.connections, inside.connections) == (1, 0)

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://0.0.0.0/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://127.0.0.1@10.0.0.1/",
        "http://10.0.0.1/",
        "gopher://example.com/",
    ],
)
def test_such_an_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match=r"tool search: found "):
        Endpoint("tool search", url, {}, timeout_seconds=1, retries=0, max_concurrency=1)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of tools.internal, in one file."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("makes its certificate with the openssl command")
    path = tmp_path / "tools.pem"
    name = ["-subj", "/CN=tools.internal", "-addext", "subjectAltName=DNS:tools.internal"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name]
    subprocess.run([*command, "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    path.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "cert").read_bytes())
    return path


def test_tls_checks_the_name_and_not_the_address(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    async def run() -> None:
        server = Listener()
        async with server.listening(tls=tls) as port:
            names = Names(["127.0.0.1"])
            with pytest.raises(EndpointFailure, match="TLS") as caught:  # nobody vouches for the certificate
                await post(f"https://tools.internal:{port}/", names, allow_private=True, retries=3)
            assert caught.value.attempts == 1
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert (await post(f"https://tools.internal:{port}/", names, allow_private=True)).status == 200
            with pytest.raises(EndpointFailure, match="TLS"):  # a certificate, but for another name
                await post(f"https://other.internal:{port}/", names, allow_private=True)
        assert len(server.heads) == 1

    asyncio.run(run())


def test_a_proxy_of_the_environment_is_for_remote_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        proxy = Listener()
        async with proxy.listening() as port:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "plain.example.com")
            names = Names([])
            settings: dict[str, Any] = {"timeout_seconds": 5, "retries": 0, "max_concurrency": 1}
            endpoint = Endpoint("e", "http://tools.example.com/x", {}, resolve=names, **settings)
            assert (await endpoint.post({}, rollout_id="trace_1")).status == 200
            await endpoint.aclose()
            assert proxy.heads[0].startswith(b"POST http://tools.example.com/x HTTP/1.1")
            assert names.asked == 0
            assert environment_proxy(httpx.URL("http://plain.example.com/")) is None

    asyncio.run(run())
