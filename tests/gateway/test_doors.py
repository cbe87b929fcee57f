"""Who may ask, how much, and what an upstream's address may be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agentrl.config import GatewayConfig, UpstreamConfig
from agentrl.errors import ConfigError
from agentrl.gateway.errors import ApiError
from agentrl.gateway.keys import Keys, refuse_open_doors, upstream_key
from agentrl.gateway.limits import Rates
from agentrl.gateway.upstream import Upstream, UpstreamFailure
from agentrl.monitoring import redaction
from agentrl.monitoring.redaction import redact_text
from agentrl.release.place import ReleasePlace
from tests.gateway.world import ADMIN_KEY, hangs_after_one, until, world

UPSTREAMS = {"base": {"url": "http://127.0.0.1:1/v1", "model": "m"}}


def config(**changes: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"upstreams": UPSTREAMS, "general": "base"} | changes)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gateway.example.org"])
def test_a_public_address_without_keys_is_refused(host: str) -> None:
    """T22"""
    with pytest.raises(ConfigError, match=r"gateway\.host: found .* gateway.api_keys"):
        refuse_open_doors(config(host=host))
    with pytest.raises(ConfigError, match=r"gateway\.admin_host: found .* gateway.admin_key_env"):
        refuse_open_doors(config(admin_host=host))
    refuse_open_doors(config(host=host, allow_public_without_key=True))
    refuse_open_doors(config(host=host, api_keys=[{"name": "a", "env": "A"}]))
    refuse_open_doors(config(admin_host=host, admin_key_env="A"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_keys(host: str) -> None:
    refuse_open_doors(config(host=host, admin_host=host))


def test_keys_that_are_none_are_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """T8"""
    keys = {"api_keys": [{"name": "a", "env": "TEST_A"}, {"name": "b", "env": "TEST_B"}]}
    good = "a-key-that-is-long-enough"
    for one, other, admin, found in (
        (None, good, None, "TEST_A is not set"),
        ("  ", good, None, "TEST_A is not set"),
        ("short-secret", good, None, "fewer than 16"),
        ("a key with a\nbreak in it", good, None, "no header"),
        (good, good, None, "the same key"),
        (good, good + "2", good, "admin key is a client's"),
    ):
        for name, value in (("TEST_A", one), ("TEST_B", other), ("TEST_ADMIN", admin)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=found) as caught:
            Keys.read(config(**keys, **({"admin_key_env": "TEST_ADMIN"} if admin else {})))
        assert (one or "  ").strip() not in str(caught.value) or not (one or "").strip()


def test_without_keys_another_hosts_name_is_refused(one_place: ReleasePlace) -> None:
    """A page in a browser whose name leads to this machine."""

    async def run() -> None:
        async with world(one_place) as here:
            answer = await here.ask(headers={"Host": "evil.example.org"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "unknown_host")
            assert here.base.asked == []

    asyncio.run(run())


def test_a_client_that_asks_too_fast_is_told_when_to_come_back() -> None:
    now = [100.0]
    rates = Rates(2.0, clock=lambda: now[0])
    for _ in range(2):
        rates.admit("a")
    with pytest.raises(ApiError) as caught:
        rates.admit("a")
    assert (caught.value.status, caught.value.retry_after_seconds) == (429, pytest.approx(0.5))
    rates.admit("b")  # another client's is its own
    now[0] += 0.5
    rates.admit("a")
    with pytest.raises(ApiError):
        rates.admit("a")


def test_a_slow_rate_lets_single_requests_through() -> None:
    now = [0.0]
    rates = Rates(0.1, clock=lambda: now[0])
    rates.admit("a")
    with pytest.raises(ApiError):
        rates.admit("a")
    now[0] += 10.0
    rates.admit("a")


def test_a_full_gateway_says_so_and_when_to_come_back(one_place: ReleasePlace) -> None:
    """F20"""

    async def run() -> None:
        async with world(one_place, base=hangs_after_one, max_concurrent=1) as here:
            body = {"messages": [], "stream": True}
            async with here.client.stream("POST", "/v1/chat/completions", json=body) as answer:
                chunks = answer.aiter_raw()
                await anext(chunks)
                refused = await here.ask()
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "gateway_full")
                assert refused.headers["retry-after"] == "1"
            await until(lambda: here.gateway.places.taken == 0)

    asyncio.run(run())


def test_the_rate_is_refused_over_http(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, max_requests_per_second=1.0, clock=lambda: 5.0) as here:
            assert (await here.ask()).status_code == 200
            refused = await here.ask()
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")

    asyncio.run(run())


def test_the_admin_port_asks_for_its_own_key(one_place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ADMIN", ADMIN_KEY)

    async def run() -> None:
        async with world(one_place, admin_key_env="TEST_ADMIN") as here:
            await here.canary(100.0)
            await here.ask(session="s", headers={"X-Intent": "refund"})
            await here.written()
            for path in ("/status", "/metrics", "/sessions"):
                assert (await here.admin.get(path, headers={"Authorization": "Bearer no"})).status_code == 401
                assert (await here.client.get(path)).status_code == 404
            status = (await here.admin.get("/status")).json()
            assert (status["candidate"], status["may_serve_candidate"]) == ("candidate", True)
            assert "pepper" not in str(status)  # who knows the salt chooses his arm
            (row,) = (await here.admin.get("/sessions?release_id=r1")).json()["data"]
            assert (row["session_id"], row["arm"], row["intent"]) == ("s", "candidate", "refund")
            assert (await here.admin.get("/sessions?limit=x")).status_code == 400
            metrics = (await here.admin.get("/metrics")).text
            assert 'agentrl_gateway_requests_total{upstream="candidate",ended="answered"} 1' in metrics
            assert (await here.admin.post("/drain")).json()["status"] == "draining"
            assert (await here.admin.get("/healthz")).status_code == 503
            assert (await here.ask()).json()["error"]["code"] == "draining"

    asyncio.run(run())


def test_without_an_admin_key_no_admin_endpoint_answers(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place) as here:
            assert (await here.admin.get("/status")).status_code == 401
            assert (await here.admin.get("/status", headers={"Authorization": "Bearer "[:-1]})).status_code == 401
            assert (await here.admin.get("/healthz")).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/v1", "http://2130706433/v1", "http://u:p@host/v1", "http://10.0.0.7/v1", "ftp://a/v1"],
)
def test_an_upstream_that_must_not_be_called_is_refused(url: str) -> None:
    """T5"""
    with pytest.raises((ConfigError, ValueError)):
        Upstream("base", UpstreamConfig(url=url, model="m"))


def test_a_key_does_not_travel_in_clear_text() -> None:
    """T8"""
    with pytest.raises(ConfigError, match="clear text"):
        Upstream("base", UpstreamConfig(url="http://models.example.org/v1", model="m"), "sk-0123456789")


def test_a_name_that_turns_private_is_not_connected_to() -> None:
    """T6: what was public when it was checked leads to this machine's services when it is connected to."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async def run() -> None:
        upstream = Upstream("base", UpstreamConfig(url="http://models.example.org/v1", model="m"), resolve=resolve)
        with pytest.raises(UpstreamFailure) as caught:
            async with upstream.ask("POST", "chat/completions"):
                pass
        assert caught.value.kind == "connect"
        assert "this machine" in str(caught.value)

    asyncio.run(run())
    assert asked == ["models.example.org"]


def test_t8_a_key_is_redacted_whatever_its_variable_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", set())
    key = "an-orchard-of-plain-words"
    said = f"I was given {key}"
    assert redact_text(said) == said
    monkeypatch.setenv("SUPPORT_MODEL", key)
    upstream = {"url": "http://127.0.0.1:8000/v1", "model": "policy", "key_env": "SUPPORT_MODEL"}
    upstream_key(GatewayConfig.model_validate({"upstreams": {"old": upstream}, "general": "old"}), "old")
    assert key not in redact_text(said)
