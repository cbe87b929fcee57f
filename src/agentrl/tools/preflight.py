"""One harmless call to every endpoint before training: a wrong token is found now, not as a thousand lost rollouts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx

from agentrl.config import GradingConfig, LifecycleConfig, ToolEndpointConfig
from agentrl.config.endpoint import EndpointSection
from agentrl.config.graders import EndpointConfig
from agentrl.endpoint import INFRASTRUCTURE_STATUSES, Endpoint, EndpointFailure, advice, excerpt, served_url
from agentrl.errors import ConfigError, SandboxError, ToolError
from agentrl.tools.endpoint_tool import EndpointTool
from agentrl.tools.lifecycle import Lifecycle
from agentrl.types import ToolCall

RETRIES = 1
"""At most: a user waits for the answer."""
ANSWER = "agentrl preflight: this is a connection test, not an answer."


def sample_of(answer: str, *, with_turns: bool = False) -> dict[str, Any]:
    """What a grader is told of an episode that answered at once, without calling a tool."""
    message = {"role": "assistant", "content": answer}
    turns = [{"text": answer, "tool_calls": [], "tool_results": []}]
    return {
        "output_text": answer,
        "output_json": None,
        "output_tools": [],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "output_reasoning_summary": None,
        **({"turns": turns} if with_turns else {}),
    }


async def check_endpoints(
    tools: Sequence[ToolEndpointConfig],
    grading: GradingConfig | None,
    *,
    item: dict[str, Any] | None = None,
    messages: Sequence[dict[str, Any]] = (),
    base_url: str = "",
    lifecycle: LifecycleConfig | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, str]:
    """Call each tool with empty arguments and the grader with a stand-in answer, all at once, as one rollout.

    Where episodes have sandboxes, one is opened before and closed after.

    A tool may answer with an error text, a grader with a 4xx that is about the sample: both are reachable.

    Args:
        item, messages: a real task's, so that the grader finds what it looks for.
        base_url: what `{serve}` stands for.

    Returns:
        The versions that endpoints told of themselves, by "tool NAME", "grader NAME" and "rubric NAME".

    Raises:
        ConfigError: lists every endpoint that is down, refuses us, or answers outside the protocol.
    """
    rollout_id = f"trace_{uuid.uuid4()}"
    async with _sandbox(lifecycle, rollout_id, item or {}, base_url, transport):
        return await _check(tools, grading, rollout_id, item or {}, messages, base_url, transport)


@asynccontextmanager
async def _sandbox(
    config: LifecycleConfig | None,
    rollout_id: str,
    item: dict[str, Any],
    base_url: str,
    transport: httpx.AsyncBaseTransport | None,
) -> AsyncIterator[None]:
    if config is None:
        yield
        return
    sandboxes = Lifecycle(_hasty(config), base_url, transport=transport)
    try:
        await sandboxes.open(rollout_id, item)
        yield
        if died := await sandboxes.close(rollout_id):
            raise ConfigError(died)
        if sandboxes.unclosed:
            raise ConfigError(f"{sandboxes.endpoints[1]!r}: the sandbox of the preflight call could not be closed")
    except SandboxError as error:
        raise ConfigError(str(error)) from error
    finally:
        await sandboxes.aclose()


Config = TypeVar("Config", bound=EndpointSection)


def _hasty(config: Config) -> Config:
    return config.model_copy(update={"retries": min(config.retries, RETRIES)})


async def _check(
    tools: Sequence[ToolEndpointConfig],
    grading: GradingConfig | None,
    rollout_id: str,
    item: dict[str, Any],
    messages: Sequence[dict[str, Any]],
    base_url: str,
    transport: httpx.AsyncBaseTransport | None,
) -> dict[str, str]:
    told: dict[str, str] = {}
    checks = [_check_tool(each, rollout_id, item, base_url, transport, told) for each in tools]
    row = {**item, "messages": list(messages)}
    for path, each in grading.endpoints if grading is not None else ():
        # the run's range and its turn scores are about the whole grader, not about a part of it
        whole = grading if path == ("grader",) else None
        checks.append(_check_grader(each, whole, rollout_id, row, base_url, transport, told))
    broken = [problem for problem in await asyncio.gather(*checks) if problem]
    if broken:
        lines = "".join(f"\n- {problem}" for problem in broken)
        raise ConfigError(f"{len(broken)} of {len(checks)} endpoints cannot be used:{lines}")
    return told


def _note_version(told: dict[str, str], name: str, body: dict[str, Any] | None, key: str = "version") -> None:
    """What an answer says of the version of the thing that gave it, if it does."""
    if isinstance(version := (body or {}).get(key), str | int | float):
        told[name] = str(version)


async def _check_tool(
    config: ToolEndpointConfig,
    rollout_id: str,
    item: dict[str, Any],
    base_url: str,
    transport: httpx.AsyncBaseTransport | None,
    told: dict[str, str],
) -> str:
    """What is wrong with the tool; empty if it can be used, and then its version is noted in `told`."""
    try:
        tool = EndpointTool(_hasty(config), base_url, transport=transport)
    except ConfigError as error:
        return str(error)
    try:
        await tool.call(ToolCall("call_preflight", config.name, "{}"), rollout_id=rollout_id, item=item)
    except (ToolError, SandboxError) as error:
        return str(error)
    finally:
        await tool.aclose()
    _note_version(told, f"tool {config.name}", tool.last_body)
    return ""


async def _check_grader(
    config: EndpointConfig,
    grading: GradingConfig | None,
    rollout_id: str,
    item: dict[str, Any],
    base_url: str,
    transport: httpx.AsyncBaseTransport | None,
    told: dict[str, str],
) -> str:
    """What is wrong with the grader; empty if it can be used, and then its versions are noted in `told`."""
    label = config.name or config.type
    name, asks_for_turns = f"grader {label}", grading is not None and grading.turn_scores
    try:
        endpoint = Endpoint(
            name,
            served_url(name, config.url, base_url),
            config.headers,
            transport=transport,
            **_hasty(config).call_options,
        )
    except ConfigError as error:
        return str(error)
    body = {"sample": sample_of(ANSWER, with_turns=asks_for_turns), "item": item, "trace_id": rollout_id}
    try:
        reply = await endpoint.post(body, rollout_id=rollout_id)
    except EndpointFailure as failure:
        return str(failure)
    finally:
        await endpoint.aclose()
    where = f"{name} at {endpoint.shown_url}"
    if reply.status in INFRASTRUCTURE_STATUSES:
        return f"{where}: answered {reply.status}{excerpt(reply.text)}{advice('status', reply.status)}"
    _note_version(told, name, reply.json)
    _note_version(told, f"rubric {label}", reply.json, "rubric_version")
    if reply.status >= 400:
        return ""
    score = (reply.json or {}).get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        return f"{where}: found score {score!r:.80}; a grader answers {{'score': a number}}"
    if grading is not None and not grading.min_score <= score <= grading.max_score:
        allowed = f"{grading.min_score:g} to grading.max_score ({grading.max_score:g})"
        return f"{where}: found score {score!r:.80}; allowed: {allowed}"
    turn_scores = (reply.json or {}).get("turn_scores")
    if asks_for_turns and not (isinstance(turn_scores, list) and len(turn_scores) == 1):
        return f"{where}: found turn_scores {turn_scores!r:.80} of one turn; allowed: a list of one number"
    return ""
