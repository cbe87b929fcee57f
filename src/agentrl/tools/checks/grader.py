"""The checks of the grader: does it answer, refuse strangers, agree with itself, and tell right from wrong?"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

from agentrl.config import GradingConfig, ToolEndpointConfig
from agentrl.config.graders import EndpointConfig
from agentrl.endpoint import Endpoint, EndpointFailure, advice, excerpt, served_url
from agentrl.errors import GraderError, ToolError
from agentrl.tools.checks.finding import (
    REFUSED,
    Finding,
    Result,
    Traces,
    burst_of,
    judged_auth,
    quantiles,
    shown_times,
    status_of,
    wrong_headers,
)
from agentrl.tools.checks.leakage import references
from agentrl.tools.checks.tool import ToolProbe
from agentrl.tools.preflight import ANSWER, sample_of
from agentrl.types import Task

GRADES = 5
NOISY = 0.1
"""Share of the best score by which grades of one sample may differ before it is a failure."""


async def check_grader(
    config: GradingConfig, tasks: Sequence[Task], *, burst: int, base_url: str = ""
) -> list[Finding]:
    """Everything that can be found out about each grader server; like `check_tool`."""
    return [
        found
        for path, server in config.endpoints
        for found in await _check_server(
            GraderProbe(server, config if path == ("grader",) else None, tasks, base_url), burst
        )
    ]


async def _check_server(probe: GraderProbe, burst: int) -> list[Finding]:
    reachable = await probe.reachable()
    if reachable.result == "failed":
        return [reachable]
    found = [reachable, *[await each() for each in (probe.auth, probe.repeatability, probe.discrimination)]]
    return [*found, await probe.burst(burst)]


async def latencies(
    tools: Sequence[ToolEndpointConfig], grading: GradingConfig, tasks: Sequence[Task], *, base_url: str = ""
) -> tuple[float, float]:
    """Seconds of a tool call and of a grade, from a few calls in turn: the median, the mean over the tools.

    Raises:
        ToolError: one of them does not answer.
    """
    found = [await ToolProbe(tool, tasks, base_url, Traces()).latency() for tool in tools]
    graders = [GraderProbe(each, None, tasks, base_url) for _, each in grading.endpoints]
    of_graders = [await probe.repeatability() for probe in graders]
    for each in (*found, *of_graders):
        if "p50_seconds" not in each.figures:
            raise ToolError(each.detail)
    of_tools = [each.figures["p50_seconds"] for each in found]
    slowest = max((each.figures["p50_seconds"] for each in of_graders), default=0.0)  # they are asked side by side
    return (sum(of_tools) / len(of_tools) if of_tools else 0.0), slowest


class GraderProbe:
    """The checks of a grader server; no sandbox is opened, since it is asked when an episode is over.

    Args:
        grading: what the run demands of this grader's scores; None of a hold-out and of a part of a grader.
    """

    def __init__(
        self, config: EndpointConfig, grading: GradingConfig | None, tasks: Sequence[Task], base_url: str
    ) -> None:
        self._name = config.name or config.type
        self._asks_for_turns = grading is not None and grading.turn_scores
        self._range = (grading.min_score, grading.max_score) if grading else (-math.inf, math.inf)
        self._config, self._tasks, self._base_url = config.model_copy(update={"retries": 0}), tasks, base_url
        self._endpoint(config.headers)  # the address and the headers can be used

    def _found(self, check: str, result: Result, detail: str, figures: dict[str, float] | None = None) -> Finding:
        return Finding(f"grader {self._name}", check, result, detail, figures or {})

    def _endpoint(self, headers: dict[str, str]) -> Endpoint:
        name = f"grader {self._name}"
        return Endpoint(name, served_url(name, self._config.url, self._base_url), headers, **self._config.call_options)

    def _body(self, task: Task | None, answer: str, trace: str) -> dict[str, Any]:
        item = {**task.item, "messages": list(task.messages)} if task else {}
        return {"sample": sample_of(answer, with_turns=self._asks_for_turns), "item": item, "trace_id": trace}

    async def _grade(self, answer: str, task: Task | None) -> tuple[float, float]:
        """Score and seconds.

        Raises:
            GraderError: no usable score.
        """
        endpoint, trace = self._endpoint(self._config.headers), _trace_id()
        try:
            reply = await endpoint.post(self._body(task, answer, trace), rollout_id=trace)
        except EndpointFailure as failure:
            raise GraderError(str(failure)) from failure
        finally:
            await endpoint.aclose()
        where = f"{endpoint.name} at {endpoint.shown_url}"
        if reply.status >= 400:
            hint = advice("status", reply.status)
            raise GraderError(f"{where}: answered {reply.status}{excerpt(reply.text)}{hint}")
        score = (reply.json or {}).get("score")
        low, high = self._range
        if isinstance(score, bool) or not isinstance(score, int | float) or not low <= score <= high:
            raise GraderError(f"{where}: found score {score!r:.80}; allowed: a number from {low:g} to {high:g}")
        return float(score), reply.seconds

    @property
    def _best(self) -> float:
        return self._range[1] if math.isfinite(self._range[1]) else 1.0

    @property
    def _task(self) -> Task | None:
        return self._tasks[0] if self._tasks else None

    async def reachable(self) -> Finding:
        try:
            score, _ = await self._grade(ANSWER, self._task)
        except GraderError as error:
            return self._found("reachable", "failed", str(error))
        return self._found("reachable", "ok", f"scores a stand-in answer with {score:g}")

    async def auth(self) -> Finding:
        accepted = []
        for what, headers in wrong_headers(self._config.headers).items():
            endpoint, trace = self._endpoint(headers), _trace_id()
            status, problem = await status_of(endpoint, self._body(self._task, ANSWER, trace), trace)
            await endpoint.aclose()
            if status not in REFUSED:
                accepted.append(f"{what}: {problem or f'answered {status}'}")
        return self._found("auth", *judged_auth(self._config.headers, accepted))

    async def repeatability(self) -> Finding:
        """The same sample, graded again and again."""
        widest, seconds = 0.0, []
        try:
            for task in self._tasks[:2]:
                for answer in (ANSWER, *list(references(task.item).values())[:1]):
                    grades = [await self._grade(answer, task) for _ in range(GRADES)]
                    scores = [score for score, _ in grades]
                    seconds += [taken for _, taken in grades]
                    widest = max(widest, max(scores) - min(scores))
        except GraderError as error:
            return self._found("repeatability", "failed", str(error))
        figures = {"spread": widest, **quantiles(seconds)}
        if not widest:
            detail = f"{GRADES} grades of a sample are equal; {shown_times(seconds)}"
            return self._found("repeatability", "ok", detail, figures)
        result: Result = "failed" if widest > NOISY * self._best else "warning"
        detail = f"{GRADES} grades of one sample differ by up to {widest:g} of {self._best:g}"
        return self._found("repeatability", result, f"{detail}: the policy would learn from noise", figures)

    async def discrimination(self) -> Finding:
        """Does the row's own answer score better than none?"""
        task = next((task for task in self._tasks if references(task.item)), None)
        if task is None:
            return self._found("discrimination", "not observed", "no key of the row looks like its answer")
        (key, answer), *_ = references(task.item).items()
        try:
            right, _ = await self._grade(answer, task)
            wrong, _ = await self._grade(ANSWER, task)
        except GraderError as error:
            return self._found("discrimination", "failed", str(error))
        figures = {"reference": right, "stand_in": wrong}
        detail = f"the row's {key} alone scores {right:g}, a stand-in answer {wrong:g}"
        if right > wrong:
            return self._found("discrimination", "ok", detail, figures)
        return self._found("discrimination", "warning", f"{detail}: does the grader expect another form?", figures)

    async def burst(self, size: int) -> Finding:
        async def one(_: int) -> float:
            return (await self._grade(ANSWER, self._task))[1]

        return self._found("burst", *await burst_of(size, one))


def _trace_id() -> str:
    return f"trace_{uuid.uuid4()}"
