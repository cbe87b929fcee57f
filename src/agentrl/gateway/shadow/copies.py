"""One user's turn, taken by the candidate: it speaks, the baseline's trace answers its calls, until it answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agentrl.config.rollout import PricesConfig
from agentrl.gateway.sessions import text_digest
from agentrl.gateway.shadow.conversation import Said, UserTurn, read_reply
from agentrl.gateway.shadow.replay import Divergence, Replay
from agentrl.gateway.upstream import UpstreamFailure

Ask = Callable[[str, bytes], Awaitable[dict[str, Any]]]
"""Path and body of a request to the candidate's server; see `Upstream.ask_json`."""
MAX_CALLS = 64
"""Of one answer; more are not looked at, and the copy has failed."""


@dataclass(frozen=True)
class CopiedTurn:
    """What the candidate made of a user's turn, and how far it went the baseline's way. None was not measured."""

    number: int
    at: float
    """When the user asked, in seconds since 1970."""
    requests: int = 0
    seconds: float | None = None
    """The candidate's answers together; None where it did not come to one."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    calls: int = 0
    unmatched: int = 0
    """Calls that the trace had no result of, and which were answered by a dry run."""
    divergence: Divergence | None = None
    is_same_answer: bool | None = None
    failure: str = ""
    """Why there is no answer of the candidate: its doing, and no success."""
    is_dropped: bool = False
    """The queue was full, or the release went on: nobody knows."""
    score: float | None = None
    baseline_score: float | None = None
    grader_version: str = ""
    """Of the grader that gave both."""
    output_digest: str = ""
    answer: str = field(default="", repr=False, compare=False)
    """For the grader; never kept."""
    proposed: tuple[dict[str, Any], ...] = field(default=(), repr=False, compare=False)
    """The candidate's calls as chat completions write them; for the grader, never kept."""

    def to_record(self) -> dict[str, Any]:
        """As JSON, without a word that anybody said."""
        record = asdict(replace(self, answer="", proposed=()))
        return {key: value for key, value in record.items() if key not in ("answer", "proposed")}


async def copied_turn(
    turn: UserTurn,
    ask: Ask,
    *,
    model: str,
    at: float,
    prices: PricesConfig | None,
    max_requests: int,
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> CopiedTurn:
    """Never raises but when it is cancelled: what a candidate does wrong is its result."""
    replay, seconds, usages = Replay(turn.trace), 0.0, []
    more: list[dict[str, Any]] = []
    said: Said | None = None
    failure = f"no answer after {max_requests} requests"
    proposed: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(timeout_seconds) as deadline:
            for _ in range(max_requests):
                body = json.dumps(turn.body(model, more)).encode()
                started = clock()
                reply = await ask(turn.path, body)
                seconds += clock() - started
                usages.append(_usage(reply))
                said = read_reply(turn.path, reply)
                if not said.calls:
                    failure = "" if said.text.strip() else "empty answer"
                    break
                if len(said.calls) > MAX_CALLS:
                    failure = f"more than {MAX_CALLS} calls in one answer"
                    break
                more += said.items
                for call in said.calls:
                    more.append(turn.result_item(call, replay.answer(call)))
                    function = {"name": call.name, "arguments": call.arguments}
                    proposed.append({"id": call.id, "type": "function", "function": function})
    except TimeoutError:
        failure = f"no answer within {timeout_seconds:g} seconds" if deadline.expired() else "timeout"
    except UpstreamFailure as error:
        failure = error.kind if error.status is None else f"status {error.status}"
    except Exception as error:  # what a server sends may be anything
        failure = f"answer that cannot be read ({type(error).__name__})"
    answer = said.text if said is not None and not failure else ""
    counts = [sum(part) for part in zip(*usages, strict=True)] if usages and None not in usages else None
    return CopiedTurn(
        number=turn.number,
        at=at,
        requests=len(usages),
        seconds=None if failure else seconds,
        tokens_in=counts[0] if counts else None,
        tokens_out=counts[1] if counts else None,
        cost_usd=_cost(prices, counts, len(replay.made)),
        calls=len(replay.made),
        unmatched=replay.unmatched,
        divergence=None if failure else replay.first_divergence(),
        is_same_answer=None if failure else " ".join(answer.split()) == " ".join(turn.answer.split()),
        failure=failure,
        output_digest=text_digest(answer) if answer else "",
        answer=answer,
        proposed=tuple(proposed),
    )


def _usage(reply: dict[str, Any]) -> tuple[int, int] | None:
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None
    found = [
        usage.get(mine, usage.get(other))
        for mine, other in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    ]
    are_counts = all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 10**9 for each in found)
    return (int(found[0]), int(found[1])) if are_counts else None  # type: ignore[arg-type]


def _cost(prices: PricesConfig | None, counts: list[int] | None, calls: int) -> float | None:
    """As of a baseline: the calls count that it would have made, carried out or not."""
    if prices is None or counts is None:
        return None
    return prices.cost_usd(prompt_tokens=counts[0], sampled_tokens=counts[1], tool_calls=calls)
