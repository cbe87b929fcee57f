"""The keys that tools and graders share: which addresses and waits a config may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.config import GradingConfig, ToolEndpointConfig


def tool(url: str, **fields: Any) -> ToolEndpointConfig:
    return ToolEndpointConfig(name="search", server_url=url, **fields)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://0.0.0.0:80/",
        "http://user:planted-canary@localhost/",
        "http://[::1",
    ],
)
def test_an_address_that_is_never_called_is_refused_by_the_config(url: str) -> None:
    for make in (tool, lambda url, **fields: GradingConfig(name="g", url=url, **fields)):
        with pytest.raises(ValueError, match="url: found ") as caught:
            make(url, allow_private=True)
        assert "planted-canary" not in str(caught.value).partition("input_value")[0]


def test_a_private_address_is_allowed_by_a_key_that_the_message_names() -> None:
    with pytest.raises(ValueError, match=r"server_url: found 10\.0\.0\.1.*allow_private: true"):
        tool("http://10.0.0.1/")
    assert tool("http://10.0.0.1/", allow_private=True).call_options["allow_private"]
    assert not tool("http://localhost:8000/").call_options["allow_private"]
    assert tool("{serve}/search").call_options["allow_private"]  # a server that the run starts may be anywhere


def test_the_deadline_of_a_call_covers_an_attempt() -> None:
    with pytest.raises(ValueError, match=r"found 300; allowed: at least timeout_seconds \(600\)"):
        tool("http://localhost/", timeout_seconds=600.0)
    assert tool("http://localhost/", timeout_seconds=600.0, total_timeout_seconds=600.0)
