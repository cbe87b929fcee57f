"""A grader over HTTP: POST {"sample": ..., "item": ..., "trace_id": ...}, answered {"score": number}.

`sample.output_tools` holds all calls of the episode. A reply without a usable score leaves the rollout ungraded: a
broken grader must not teach the policy that its answers are worth 0.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import httpx

from agentrl.config import GradingConfig
from agentrl.endpoint import Endpoint, EndpointFailure, Reply, excerpt, served_url, strict_json
from agentrl.types import Grade, Rollout, StopReason, ToolCall, Turn

FINISH_REASONS = {StopReason.TOKEN_BUDGET: "length", StopReason.TIME_LIMIT: "length"}
"""In chat-completions terms; a last turn with calls is "tool_calls", everything else "stop"."""


class EndpointGrader:
    """The endpoint of `grading:`.

    Args:
        base_url: what `{serve}` in the config's url stands for.
        transport: replaces the network in tests.

    Raises:
        ConfigError: the URL or a header cannot be used.
    """

    def __init__(
        self, config: GradingConfig, base_url: str = "", *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._max_score = config.max_score
        self._is_clamped = config.out_of_range == "clamp"
        self._scores_turns = config.turn_scores
        name = f"grader {config.name}"
        url = served_url(name, config.url, base_url)
        self.endpoint = Endpoint(name, url, config.headers, transport=transport, **config.call_options)
        """Its health and its statistics."""

    def __repr__(self) -> str:
        return f"EndpointGrader({self.endpoint.name!r}, {self.endpoint.shown_url!r})"

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    async def grade(self, rollout: Rollout) -> Grade:
        """Ask for the score; a rollout that infrastructure ended is not asked about."""
        if rollout.stop_reason is StopReason.INFRASTRUCTURE:
            return Grade(None, f"not graded, the rollout was cut off: {rollout.error}")
        started = time.perf_counter()
        try:
            reply = await self.endpoint.post(
                request_body(rollout, with_turns=self._scores_turns),
                rollout_id=rollout.id,
                action="grade",
                check=partial(_unusable, n_turns=len(rollout.turns) if self._scores_turns else None),
            )
        except EndpointFailure as failure:
            return Grade(None, str(failure), time.perf_counter() - started)
        return self._read(reply)

    def _read(self, reply: Reply) -> Grade:
        where = f"{self.endpoint.name} at {self.endpoint.shown_url}"
        if reply.status >= 400 or reply.json is None:
            return Grade(None, f"{where}: answered {reply.status}{excerpt(reply.text)}", reply.seconds)
        score = reply.json["score"]
        if not 0 <= score <= self._max_score:
            if not self._is_clamped:
                found = f"{where}: found score {score!r:.80}; allowed: 0 to grading.max_score ({self._max_score:g})"
                return Grade(None, found, reply.seconds)
            score = max(0.0, min(score, self._max_score))
        turn_scores = tuple(map(float, reply.json["turn_scores"])) if self._scores_turns else ()
        return Grade(float(score), seconds=reply.seconds, turn_scores=turn_scores)


def _unusable(body: dict[str, Any], n_turns: int | None) -> str:
    """What is wrong with a reply; empty where it has a score. NaN and infinity are no JSON and come no further.

    Args:
        n_turns: how many turn scores were asked for; None where they were not.
    """
    if "score" not in body:
        return f"answered without `score` (keys: {', '.join(map(repr, body)) or 'none':.200})"
    score = body["score"]
    if isinstance(score, bool) or not isinstance(score, int | float):
        return f"found score {score!r:.80}; a score is a number"
    turn_scores = body.get("turn_scores")
    if n_turns is not None and not (
        isinstance(turn_scores, list) and len(turn_scores) == n_turns and all(map(_is_share, turn_scores))
    ):
        return f"found turn_scores {turn_scores!r:.80}; allowed: a list of {n_turns} numbers from 0 to 1, one a turn"
    return ""


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def request_body(rollout: Rollout, *, with_turns: bool = False) -> dict[str, Any]:
    """What a grader is told about a rollout: `output_json` is the parsed answer, or null where it is no JSON."""
    last_calls = rollout.turns[-1].tool_calls if rollout.turns else ()
    message: dict[str, Any] = {"role": "assistant", "content": rollout.answer}
    if last_calls:
        message["tool_calls"] = [_chat_call(call) for call in last_calls]
    finish_reason = FINISH_REASONS.get(rollout.stop_reason, "tool_calls" if last_calls else "stop")
    sample: dict[str, Any] = {
        "output_text": rollout.answer,
        "output_json": _json_or_none(rollout.answer),
        "output_tools": [_chat_call(call) for call in rollout.tool_calls],
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "output_reasoning_summary": None,
    }
    if with_turns:
        sample["turns"] = [_turn(turn) for turn in rollout.turns]
    item = {**rollout.task.item, "messages": list(rollout.task.messages)}
    return {"sample": sample, "item": item, "trace_id": rollout.id}


def _turn(turn: Turn) -> dict[str, Any]:
    """What the policy wrote, the calls in it, and what they were answered."""
    results = [{"call_id": result.call_id, "output": result.output} for result in turn.tool_results]
    return {"text": turn.text, "tool_calls": [_chat_call(call) for call in turn.tool_calls], "tool_results": results}


def _chat_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _json_or_none(text: str) -> Any:
    try:
        return strict_json(text)
    except ValueError:
        return None
