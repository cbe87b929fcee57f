"""MCP servers as tools, against servers made with the official SDK: over stdio, and over HTTP on loopback."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import MCPServerConfig, ServeConfig, ToolEndpointConfig, ToolsConfig
from agentrl.endpoint.network import VettedNetwork
from agentrl.errors import ConfigError, ToolError
from agentrl.tools import EndpointTool, MCPServer, Toolbox, serving
from agentrl.types import ToolCall, ToolResult

pytest.importorskip("mcp", reason="the extra agentrl[mcp] is not installed")

SERVER = str(Path(__file__).parents[1] / "mcp_notes_server.py")
STDIO = ("{python}", SERVER, "stdio")
TOOLS = ("note", "whoami", "refuse", "long", "hang", "crash")


@pytest.fixture(scope="module")
def http_url() -> Iterator[str]:
    with serving([ServeConfig(command=("{python}", SERVER, "http"))], {}) as (base_url,):
        yield f"{base_url}/mcp"


def toolbox(max_output_chars: int = 8000, **fields: Any) -> Toolbox:
    config = ToolsConfig.model_validate({"mcp": [{"name": "notes", **fields}]})
    return Toolbox.from_config(config, max_output_chars=max_output_chars)


async def one(tools: Toolbox, rollout_id: str, name: str, arguments: str = "{}") -> ToolResult:
    return (await tools.run([ToolCall("call_1", name, arguments)], rollout_id=rollout_id, item={}))[0]


def run(tools: Toolbox, steps: Callable[[Toolbox], Awaitable[None]]) -> None:
    async def work() -> None:
        try:
            await asyncio.wait_for(steps(tools), 60)
        finally:
            await tools.aclose()

    asyncio.run(work())


async def interleaved_notes(tools: Toolbox) -> list[str]:
    outputs = []
    for rollout_id, text in [("trace_a", "1"), ("trace_b", "2"), ("trace_a", "3"), ("trace_b", "4")]:
        outputs.append((await one(tools, rollout_id, "note", f'{{"text": "{text}"}}')).output)
    return outputs


def test_the_server_says_which_tools_it_has(http_url: str) -> None:
    tools = toolbox(url=http_url)
    assert tools.names == TOOLS
    note = tools.descriptions[0]["function"]
    assert note["description"] == "Write a note and read all of this session's.\n\nArgs:\n    text: what to write."
    assert note["parameters"]["properties"]["text"]["type"] == "string"
    assert note["parameters"]["required"] == ["text"]


def test_the_server_says_which_version_it_is(http_url: str) -> None:
    assert toolbox(url=http_url, allow=["note", "whoami"], prefix="my_").versions == {
        "my_note": "3.1",
        "my_whoami": "3.1",
    }


def test_tools_can_be_chosen_and_renamed(http_url: str) -> None:
    tools = toolbox(url=http_url, allow=["whoami", "refuse"], prefix="notes_")
    assert tools.names == ("notes_whoami", "notes_refuse")

    async def steps(tools: Toolbox) -> None:
        assert (await one(tools, "trace_a", "notes_whoami")).output.startswith("trace_a")
        assert "Known tools: notes_whoami, notes_refuse." in (await one(tools, "trace_a", "note")).output

    run(tools, steps)
    with pytest.raises(ConfigError, match=r"tools.mcp notes: allow names the tool 'whoamy'.*did you mean 'whoami'"):
        toolbox(url=http_url, allow=["whoamy"])


def test_rollouts_over_http_have_sessions_of_their_own(http_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "s3cret-value")

    async def steps(tools: Toolbox) -> None:
        assert await interleaved_notes(tools) == ["1", "2", "1 3", "2 4"]
        assert (await one(tools, "trace_b", "whoami")).output == "trace_b trace_b s3cret-value"
        await tools.end_rollout("trace_a")
        assert (await one(tools, "trace_a", "note", '{"text": "5"}')).output == "5"
        assert (await one(tools, "trace_b", "note", '{"text": "6"}')).output == "2 4 6"

    run(toolbox(url=http_url, headers={"X-Notes-Key": "${A_KEY}"}), steps)


def test_rollouts_over_stdio_have_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "s3cret-value")

    async def steps(tools: Toolbox) -> None:
        assert await interleaved_notes(tools) == ["1", "2", "1 3", "2 4"]
        assert (await one(tools, "trace_a", "whoami")).output == "trace_a None s3cret-value"
        before = children()
        await tools.end_rollout("trace_a")
        assert len(children()) == len(before) - 1
        # the other one dies in the middle of a call, and a call beside it with it
        calls = [one(tools, "trace_b", "crash"), one(tools, "trace_b", "hang"), one(tools, "trace_b", "note")]
        for error in (await asyncio.gather(*calls, return_exceptions=True))[:2]:
            assert isinstance(error, ToolError)
            assert error.rollout_id == "trace_b"
            assert "Connection closed; it printed last: out of memory" in str(error)
        with pytest.raises(ToolError):  # a blank server must not go on in the place of the dead one
            await one(tools, "trace_b", "note", '{"text": "5"}')

    started = children()
    run(toolbox(command=STDIO, env={"NOTES_KEY": "${A_KEY}"}), steps)
    assert children() == started


def children() -> set[str]:
    """Processes that run the server for us."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode().split("\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if SERVER in command and "stdio" in command and parent == str(os.getpid()):
            found.add(folder.name)
    return found


def test_a_shared_session_is_opened_anew_after_a_crash() -> None:
    async def steps(tools: Toolbox) -> None:
        assert await interleaved_notes(tools) == ["1", "1 2", "1 2 3", "1 2 3 4"]
        await tools.end_rollout("trace_a")
        assert (await one(tools, "trace_a", "note", '{"text": "5"}')).output == "1 2 3 4 5"
        with pytest.raises(ToolError, match="Connection closed"):
            await one(tools, "trace_a", "crash")
        assert (await one(tools, "trace_a", "note", '{"text": "6"}')).output == "6"

    run(toolbox(command=STDIO, session="shared"), steps)


def test_a_server_that_hangs_is_a_tool_error_in_time_and_answers_the_next_call(http_url: str) -> None:
    async def steps(tools: Toolbox) -> None:
        started = time.monotonic()
        with pytest.raises(ToolError, match=r"tools.mcp notes: tool hang: no answer within 0.5 s"):
            await one(tools, "trace_a", "hang")
        assert time.monotonic() - started < 10
        assert (await one(tools, "trace_a", "refuse")).is_error

    run(toolbox(url=http_url, timeout_seconds=0.5), steps)


def test_a_cancelled_call_leaves_the_session_usable(http_url: str) -> None:
    async def steps(tools: Toolbox) -> None:
        await one(tools, "trace_a", "note", '{"text": "1"}')
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one(tools, "trace_a", "hang"), 0.1)
        assert (await one(tools, "trace_a", "note", '{"text": "2"}')).output == "1 2"

    run(toolbox(url=http_url), steps)


def test_errors_of_the_policys_making_are_shown_as_those_of_other_tools(http_url: str) -> None:
    async def steps(tools: Toolbox) -> None:
        refused = await one(tools, "trace_a", "refuse")
        assert refused.is_error
        assert "no such page" in refused.output
        missing = await one(tools, "trace_a", "note")
        assert missing.is_error
        assert "text" in missing.output
        endpoint = EndpointTool(ToolEndpointConfig(name="note", server_url="http://127.0.0.1:1/note"))
        for arguments in ("{", "[1]"):
            call = ToolCall("call_1", "note", arguments)
            expected = await endpoint.call(call, rollout_id="trace_a", item={})
            assert await one(tools, "trace_a", "note", arguments) == expected

    run(toolbox(url=http_url), steps)


def test_a_long_output_is_cut_with_a_marker(http_url: str) -> None:
    async def steps(tools: Toolbox) -> None:
        result = await one(tools, "trace_a", "long", '{"n": 500}')
        assert (len(result.output), result.is_cut) == (100, True)
        assert result.output.endswith("x\n[output cut: it has 500 characters]")

    run(toolbox(max_output_chars=100, url=http_url), steps)


def test_many_rollouts_at_once_stay_apart_and_leave_nothing_open(http_url: str) -> None:
    async def rollout(tools: Toolbox, number: int) -> list[str]:
        rollout_id = f"trace_{number}"
        outputs = [(await one(tools, rollout_id, "note", f'{{"text": "{number}"}}')).output for _ in range(3)]
        await tools.end_rollout(rollout_id)
        return outputs

    async def steps(tools: Toolbox) -> None:
        found = await asyncio.gather(*(rollout(tools, number) for number in range(20)))
        assert found == [[f"{n}", f"{n} {n}", f"{n} {n} {n}"] for n in range(20)]

    async def work() -> int:
        tools = toolbox(url=http_url)
        before = len(asyncio.all_tasks())
        await steps(tools)
        await tools.aclose()
        return len(asyncio.all_tasks()) - before

    assert asyncio.run(asyncio.wait_for(work(), 60)) == 0


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"command": ["{python}", "-c", "import sys; sys.exit('no licence')"]}, "it printed last: no licence"),
        ({"command": ["/no/such/program"]}, "cannot list its tools .FileNotFoundError"),
        (
            {"command": ["{python}", "-c", "import time; time.sleep(30)"], "timeout_seconds": 1.0},
            "no answer within 1 s",
        ),
        ({"url": "http://127.0.0.1:1/mcp"}, "cannot list its tools .ConnectError"),
        (
            {"url": "http://127.0.0.1:1/mcp", "headers": {"X-Key": "${NOT_SET_ANYWHERE}"}},
            "'NOT_SET_ANYWHERE' is not set",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_named_at_the_start(fields: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=rf"tools.mcp notes: .*{found}"):
        toolbox(**fields)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("169.254.169.254", "a metadata service; it is never called"),
        ("10.0.0.1", "a private network; set `allow_private: true`"),
        ("2130706433", "an address in disguise"),
        ("user:pw@example.com", "found a user name or password in the url"),
    ],
)
def test_an_address_that_must_not_be_called_is_refused(host: str, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        MCPServerConfig(name="notes", url=f"http://{host}/mcp")


def test_a_name_that_leads_to_a_private_network_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there either, but the connection is refused before it is tried."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["10.255.255.1", "169.254.169.254"]

    monkeypatch.setattr(VettedNetwork.__init__, "__kwdefaults__", {"resolve": resolve})
    with pytest.raises(ConfigError, match=r"tools.mcp notes: cannot list its tools .AddressRefused: .*private network"):
        toolbox(url="https://tools.example.com/mcp")


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match=r"tools.mcp notes: needs the MCP SDK .*pip install 'agentrl\[mcp\]'"):
        MCPServer(MCPServerConfig(name="notes", command=STDIO))
