"""What the checks of tools and of graders share: findings, rollouts to call under, wrong keys, bursts."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentrl.endpoint import Endpoint, EndpointFailure
from agentrl.errors import RolloutError
from agentrl.tools.lifecycle import Lifecycle

WRONG_KEY = "agentrl-check-wrong-key"
REFUSED = (401, 403)

Result = Literal["ok", "warning", "failed", "not observed"]


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    endpoint: str
    check: str
    result: Result
    detail: str
    figures: dict[str, float] = field(default_factory=dict)


class Traces:
    """Rollout ids to call under, each with its sandbox where the tools need one."""

    def __init__(self, lifecycle: Lifecycle | None = None) -> None:
        self._lifecycle = lifecycle
        self._ids: list[str] = []

    async def new(self, item: dict[str, Any]) -> str:
        """The id of a rollout that nobody else calls under.

        Raises:
            SandboxError: its sandbox could not be opened.
        """
        self._ids.append(f"trace_{uuid.uuid4()}")
        if self._lifecycle is not None:
            await self._lifecycle.open(self._ids[-1], item)
        return self._ids[-1]

    async def close(self) -> None:
        """Close the sandboxes of all ids so far."""
        ids, self._ids = self._ids, []
        if self._lifecycle is not None:
            await asyncio.gather(*(self._lifecycle.close(each) for each in ids))


async def burst_of(size: int, one: Callable[[int], Awaitable[float]]) -> tuple[Result, str, dict[str, float]]:
    """As many calls at once as the run may make, each over a connection of its own and sent once."""
    started = time.perf_counter()
    outcomes = await asyncio.gather(*(one(number) for number in range(size)), return_exceptions=True)
    wall = time.perf_counter() - started
    seconds = [outcome for outcome in outcomes if isinstance(outcome, float)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, RolloutError)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, RolloutError):
            raise outcome
    figures = {"size": float(size), "errors": float(len(errors)), "wall_seconds": wall, **quantiles(seconds)}
    detail = f"{size} calls at once: {shown_times(seconds)}" if seconds else f"{size} calls at once"
    if errors:
        detail += f"; {len(errors)} failed, the first with {errors[0]}; lower max_concurrency"
    return ("failed" if errors else "ok"), detail, figures


async def status_of(endpoint: Endpoint, body: dict[str, Any], trace: str) -> tuple[int, str]:
    """The status of the answer, or 0 and what happened instead."""
    try:
        return (await endpoint.post(body, rollout_id=trace)).status, ""
    except EndpointFailure as failure:
        return failure.status or 0, str(failure)


def wrong_headers(headers: dict[str, str]) -> dict[str, dict[str, str]]:
    """Headers without the secrets, and with wrong ones; nothing where no header has one."""
    secret = [name for name, value in headers.items() if "${" in value]
    if not secret:
        return {}
    wrong = {name: f"{headers[name].partition('${')[0]}{WRONG_KEY}" for name in secret}
    without = {name: value for name, value in headers.items() if name not in secret}
    return {"a wrong key": {**headers, **wrong}, "no key": without}


def judged_auth(headers: dict[str, str], accepted: list[str]) -> tuple[Result, str]:
    if not wrong_headers(headers):
        return "not observed", "no header carries a secret"
    if accepted:
        return "warning", f"not refused with 401 or 403 for {'; '.join(accepted)}"
    return "ok", "a wrong key and a missing one are refused"


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {f"p{p}_seconds": ordered[max(0, -(-p * len(ordered) // 100) - 1)] for p in (50, 95, 99)}


def shown_times(seconds: Sequence[float]) -> str:
    return ", ".join(
        f"{name.removesuffix('_seconds')} {1000 * value:.0f} ms" for name, value in quantiles(seconds).items()
    )
