"""`agentrl endpoints check`: what a run would find out about its endpoints too late.

Tools are called with `check_arguments`. A `{marker}` in them becomes a word that no other call has, so that an output
which repeats it shows what the server remembers, and of whom; without a marker, outputs of repeated calls are
compared. What cannot be seen this way is said to be not observed, never to be good.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentrl.config import GradingConfig, ToolEndpointConfig
from agentrl.endpoint import Endpoint, EndpointFailure, advice, excerpt, served_url
from agentrl.errors import ToolError
from agentrl.tools.endpoint_tool import EndpointTool
from agentrl.tools.leakage import is_strong, mentions, references
from agentrl.tools.preflight import ANSWER, sample_of
from agentrl.types import Task, ToolCall, ToolResult

MARKER = "{marker}"
CALLS = 4
"""Of one trace, where it is asked whether state is kept; two workers lose it once in eight tries by then."""
LATENCY_CALLS = 20
GRADES = 5
LEAK_TASKS = 8
WHOLE_OUTPUT = 2**20
WRONG_KEY = "agentrl-check-wrong-key"
REFUSED = (401, 403)
NOISY = 0.1
"""Share of the best score by which grades of one sample may differ before it is a failure."""

Result = Literal["ok", "warning", "failed", "not observed"]


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    endpoint: str
    check: str
    result: Result
    detail: str
    figures: dict[str, float] = field(default_factory=dict)


async def check_tool(
    config: ToolEndpointConfig, tasks: Sequence[Task], *, burst: int, base_url: str = ""
) -> list[Finding]:
    """Everything that can be found out about one tool.

    Args:
        tasks: real ones; the first is sent as `item` where only one is needed.
        burst: calls at once.
        base_url: what `{serve}` stands for.

    Raises:
        ConfigError: the URL or a header cannot be used.
    """
    probe = _ToolProbe(config, tasks, base_url)
    reachable = await probe.reachable()
    if reachable.result == "failed":
        return [reachable]
    checks = (probe.auth, probe.latency, probe.state, probe.isolation, probe.idempotency, probe.leakage)
    found = [reachable, *[await each() for each in checks]]
    return [*found, await probe.burst(burst)]


async def check_grader(
    config: GradingConfig, tasks: Sequence[Task], *, burst: int, base_url: str = ""
) -> list[Finding]:
    """Everything that can be found out about the grader; like `check_tool`."""
    probe = _GraderProbe(config, tasks, base_url)
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
    found = [await _ToolProbe(tool, tasks, base_url).latency() for tool in tools]
    found.append(await _GraderProbe(grading, tasks, base_url).repeatability())
    for each in found:
        if "p50_seconds" not in each.figures:
            raise ToolError(each.detail)
    *of_tools, of_grader = (each.figures["p50_seconds"] for each in found)
    return (sum(of_tools) / len(of_tools) if of_tools else 0.0), of_grader


class _ToolProbe:
    def __init__(self, config: ToolEndpointConfig, tasks: Sequence[Task], base_url: str) -> None:
        self._config = config.model_copy(update={"retries": 0})  # what a retry would hide is what is looked for
        self._tasks, self._base_url = tasks, base_url
        self._item = tasks[0].item if tasks else {}
        self._written = json.dumps(config.check_arguments, ensure_ascii=False)
        self._has_marker = MARKER in self._written
        self._tool()  # the address and the headers can be used
        self._can_write = "set check_arguments to arguments that do something, with a {marker} in a text"

    def _found(self, check: str, result: Result, detail: str, figures: dict[str, float] | None = None) -> Finding:
        return Finding(f"tool {self._config.name}", check, result, detail, figures or {})

    def _tool(self, **changes: Any) -> EndpointTool:
        """A tool of its own for each use: another connection may meet another worker of the server."""
        config = self._config.model_copy(update=changes)
        return EndpointTool(config, self._base_url, max_output_chars=WHOLE_OUTPUT)

    async def _call(
        self, trace: str, *, marker: str = "", call_id: str = "", item: dict[str, Any] | None = None
    ) -> ToolResult:
        tool = self._tool()
        written = self._written.replace(MARKER, marker or _word())
        call = ToolCall(call_id or f"call_{uuid.uuid4().hex[:12]}", self._config.name, written)
        try:
            return await tool.call(call, rollout_id=trace, item=self._item if item is None else item)
        finally:
            await tool.aclose()

    async def reachable(self) -> Finding:
        try:
            result = await self._call(_trace())
        except ToolError as error:
            return self._found("reachable", "failed", str(error))
        if result.is_error:
            return self._found(
                "reachable", "warning", f"refuses {self._written}{excerpt(result.output)}; {self._can_write}"
            )
        return self._found("reachable", "ok", f"answers {self._written}, in the format of the protocol")

    async def auth(self) -> Finding:
        accepted, problem = [], ""
        for what, headers in _wrong_headers(self._config.headers).items():
            tool = self._tool(headers=headers)
            call = ToolCall("call_auth", self._config.name, self._written.replace(MARKER, _word()))
            trace = _trace()
            body = tool.request_body(call, rollout_id=trace, item=self._item)
            status, problem = await _status(tool.endpoint, body, trace)
            await tool.aclose()
            if status not in REFUSED:
                accepted.append(f"{what}: {problem or f'answered {status}'}")
        return self._found("auth", *_judged_auth(self._config.headers, accepted))

    async def latency(self) -> Finding:
        tool, seconds = self._tool(), []
        try:
            for _ in range(LATENCY_CALLS):
                call = ToolCall("call_latency", self._config.name, self._written.replace(MARKER, _word()))
                seconds.append((await tool.call(call, rollout_id=_trace(), item=self._item)).seconds)
        except ToolError as error:
            return self._found("latency", "failed", f"call {len(seconds) + 1} of {LATENCY_CALLS}: {error}")
        finally:
            await tool.aclose()
        return self._found("latency", "ok", f"{LATENCY_CALLS} calls in turn: {_shown(seconds)}", _quantiles(seconds))

    async def state(self) -> Finding:
        """Is what one call of a trace did still there for the next, whichever worker answers it?"""
        try:
            outputs, markers = await self._sequence(_trace())
            again, _ = await self._sequence(_trace())
        except ToolError as error:
            return self._found("state", "failed", str(error))
        if self._has_marker:
            seen = [markers[n - 1] in outputs[n] for n in range(1, CALLS)]
            earlier = [any(marker in outputs[n] for marker in markers[:n]) for n in range(1, CALLS)]
            if all(seen):
                return self._found("state", "ok", f"each of {CALLS} calls of a trace sees the one before it")
            if any(earlier):
                lost = seen.index(False) + 2
                return self._found(
                    "state",
                    "failed",
                    f"call {lost} of a trace did not see the call before it, though others did; with several "
                    "workers, keep state outside the process or send a trace to one worker (X-Rollout-Id)",
                )
            return self._found("state", "not observed", "no output repeats what an earlier call of the trace said")
        if len(set(outputs)) == 1 and again == outputs:
            return self._found("state", "not observed", f"the same call is answered alike; {self._can_write}")
        if outputs[0] in outputs[1:]:
            return self._found(
                "state",
                "warning",
                f"call {outputs.index(outputs[0], 1) + 1} of a trace was answered as if it were the first, though "
                "outputs change from call to call: is state lost between workers?",
            )
        if again != outputs:
            return self._found("state", "not observed", f"{_unsteady(outputs, again)}; {self._can_write}")
        return self._found(
            "state", "ok", f"{CALLS} equal calls of a trace are answered one after the other, twice alike"
        )

    async def isolation(self) -> Finding:
        """Does one rollout see what another did?"""
        first, second = _trace(), _trace()
        try:
            alone, _ = await self._sequence(_trace())
            mine: list[str] = []
            theirs: list[str] = []
            words: tuple[list[str], list[str]] = ([], [])
            for _ in range(CALLS):
                for trace, outputs, said in ((first, mine, words[0]), (second, theirs, words[1])):
                    said.append(_word())
                    outputs.append((await self._call(trace, marker=said[-1])).output)
        except ToolError as error:
            return self._found("isolation", "failed", str(error))
        if self._has_marker:
            leaks = [word for word in words[0] if any(word in output for output in theirs)]
            leaks += [word for word in words[1] if any(word in output for output in mine)]
            if leaks:
                detail = "one rollout's output shows what another rollout wrote; keep state by trace_id"
                return self._found("isolation", "failed", detail)
            if not any(word in output for word, output in zip(words[0], mine, strict=True)):
                return self._found("isolation", "not observed", "no output repeats what a call said")
            return self._found("isolation", "ok", f"two interleaved rollouts of {CALLS} calls do not see each other")
        if mine == theirs == alone:
            return self._found("isolation", "ok", "two interleaved rollouts are answered as one alone is")
        return self._found("isolation", "not observed", f"{_unsteady(mine, theirs)}; {self._can_write}")

    async def idempotency(self) -> Finding:
        trace, marker, call_id = _trace(), _word(), f"call_{uuid.uuid4().hex[:12]}"
        try:
            one, two = [(await self._call(trace, marker=marker, call_id=call_id)).output for _ in range(2)]
        except ToolError as error:
            return self._found("idempotency", "failed", str(error))
        if one == two:
            return self._found("idempotency", "ok", "a call that is sent twice under one call_id is answered alike")
        detail = "a call sent twice under one call_id was answered differently: a retry would be carried out again"
        return self._found("idempotency", "failed", f"{detail}{_difference(one, two)}")

    async def leakage(self) -> Finding:
        """Does what a tool says change with the row's answer?"""
        sent = self._tool().request_body(ToolCall("", "", "{}"), rollout_id="", item=self._item)["item"]
        keys = references(sent)
        if not references(self._item):
            return self._found("leakage", "not observed", "no key of the row looks like its answer")
        if not sent:
            return self._found("leakage", "ok", "it is sent no item (item_fields: none), so it has no answer to tell")
        leaks, strong = [], 0
        try:
            outputs = [(await self._call(_trace(), item=task.item)).output for task in self._tasks[:LEAK_TASKS]]
        except ToolError as error:
            return self._found("leakage", "failed", str(error))
        for number, task in enumerate(self._tasks[: len(outputs)]):
            others = [output for other, output in enumerate(outputs) if other != number]
            for key, reference in references(task.item).items():
                if mentions(outputs[number], reference) and not any(mentions(each, reference) for each in others[:1]):
                    leaks.append(f"{key} of {task.id}")
                    strong += is_strong(reference)
        if strong or len(leaks) > 1:
            detail = f"the output holds the row's answer ({', '.join(leaks[:3])}); set item_fields to none or a list"
            return self._found("leakage", "failed", detail, {"leaks": float(len(leaks)), "tasks": float(len(outputs))})
        if keys:
            detail = f"it is sent {', '.join(keys)}, and told it in none of {len(outputs)} outputs; set item_fields"
            return self._found("leakage", "warning", detail)
        return self._found("leakage", "ok", f"the answer is in none of {len(outputs)} outputs")

    async def burst(self, size: int) -> Finding:
        async def one() -> float:
            return (await self._call(_trace())).seconds

        return self._found("burst", *await _burst(size, one))

    async def _sequence(self, trace: str) -> tuple[list[str], list[str]]:
        """Outputs of calls of one trace, one after the other, and the word that each of them brought."""
        markers = [_word() for _ in range(CALLS)]
        return [(await self._call(trace, marker=marker)).output for marker in markers], markers


class _GraderProbe:
    def __init__(self, config: GradingConfig, tasks: Sequence[Task], base_url: str) -> None:
        self._config, self._tasks, self._base_url = config.model_copy(update={"retries": 0}), tasks, base_url
        self._endpoint(config.headers)  # the address and the headers can be used

    def _found(self, check: str, result: Result, detail: str, figures: dict[str, float] | None = None) -> Finding:
        return Finding(f"grader {self._config.name}", check, result, detail, figures or {})

    def _endpoint(self, headers: dict[str, str]) -> Endpoint:
        name = f"grader {self._config.name}"
        return Endpoint(name, served_url(name, self._config.url, self._base_url), headers, **self._config.call_options)

    def _body(self, task: Task | None, answer: str, trace: str) -> dict[str, Any]:
        item = {**task.item, "messages": list(task.messages)} if task else {}
        return {"sample": sample_of(answer), "item": item, "trace_id": trace}

    async def _grade(self, answer: str, task: Task | None) -> tuple[float, float]:
        """Score and seconds.

        Raises:
            ToolError: no usable score.
        """
        endpoint, trace = self._endpoint(self._config.headers), _trace()
        try:
            reply = await endpoint.post(self._body(task, answer, trace), rollout_id=trace)
        except EndpointFailure as failure:
            raise ToolError(str(failure)) from failure
        finally:
            await endpoint.aclose()
        where = f"{endpoint.name} at {endpoint.shown_url}"
        if reply.status >= 400:
            hint = advice("status", reply.status)
            raise ToolError(f"{where}: answered {reply.status}{excerpt(reply.text)}{hint}")
        score = (reply.json or {}).get("score")
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= self._config.max_score:
            raise ToolError(
                f"{where}: found score {score!r:.80}; allowed: a number from 0 to {self._config.max_score:g}"
            )
        return float(score), reply.seconds

    @property
    def _task(self) -> Task | None:
        return self._tasks[0] if self._tasks else None

    async def reachable(self) -> Finding:
        try:
            score, _ = await self._grade(ANSWER, self._task)
        except ToolError as error:
            return self._found("reachable", "failed", str(error))
        return self._found("reachable", "ok", f"scores a stand-in answer with {score:g}")

    async def auth(self) -> Finding:
        accepted = []
        for what, headers in _wrong_headers(self._config.headers).items():
            endpoint, trace = self._endpoint(headers), _trace()
            status, problem = await _status(endpoint, self._body(self._task, ANSWER, trace), trace)
            await endpoint.aclose()
            if status not in REFUSED:
                accepted.append(f"{what}: {problem or f'answered {status}'}")
        return self._found("auth", *_judged_auth(self._config.headers, accepted))

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
        except ToolError as error:
            return self._found("repeatability", "failed", str(error))
        figures = {"spread": widest, **_quantiles(seconds)}
        if not widest:
            detail = f"{GRADES} grades of a sample are equal; {_shown(seconds)}"
            return self._found("repeatability", "ok", detail, figures)
        result: Result = "failed" if widest > NOISY * self._config.max_score else "warning"
        detail = f"{GRADES} grades of one sample differ by up to {widest:g} of {self._config.max_score:g}"
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
        except ToolError as error:
            return self._found("discrimination", "failed", str(error))
        figures = {"reference": right, "stand_in": wrong}
        detail = f"the row's {key} alone scores {right:g}, a stand-in answer {wrong:g}"
        if right > wrong:
            return self._found("discrimination", "ok", detail, figures)
        return self._found("discrimination", "warning", f"{detail}: does the grader expect another form?", figures)

    async def burst(self, size: int) -> Finding:
        async def one() -> float:
            return (await self._grade(ANSWER, self._task))[1]

        return self._found("burst", *await _burst(size, one))


async def _burst(size: int, one: Callable[[], Awaitable[float]]) -> tuple[Result, str, dict[str, float]]:
    """As many calls at once as the run may make, each over a connection of its own and sent once."""
    started = time.perf_counter()
    outcomes = await asyncio.gather(*(one() for _ in range(size)), return_exceptions=True)
    wall = time.perf_counter() - started
    seconds = [outcome for outcome in outcomes if isinstance(outcome, float)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, ToolError)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, ToolError):
            raise outcome
    figures = {"size": float(size), "errors": float(len(errors)), "wall_seconds": wall, **_quantiles(seconds)}
    detail = f"{size} calls at once: {_shown(seconds)}" if seconds else f"{size} calls at once"
    if errors:
        detail += f"; {len(errors)} failed, the first with {errors[0]}; lower max_concurrency"
    return ("failed" if errors else "ok"), detail, figures


async def _status(endpoint: Endpoint, body: dict[str, Any], trace: str) -> tuple[int, str]:
    """The status of the answer, or 0 and what happened instead."""
    try:
        return (await endpoint.post(body, rollout_id=trace)).status, ""
    except EndpointFailure as failure:
        return failure.status or 0, str(failure)


def _wrong_headers(headers: dict[str, str]) -> dict[str, dict[str, str]]:
    """Headers without the secrets, and with wrong ones; nothing where no header has one."""
    secret = [name for name, value in headers.items() if "${" in value]
    if not secret:
        return {}
    wrong = {name: f"{headers[name].partition('${')[0]}{WRONG_KEY}" for name in secret}
    without = {name: value for name, value in headers.items() if name not in secret}
    return {"a wrong key": {**headers, **wrong}, "no key": without}


def _judged_auth(headers: dict[str, str], accepted: list[str]) -> tuple[Result, str]:
    if not _wrong_headers(headers):
        return "not observed", "no header carries a secret"
    if accepted:
        return "warning", f"not refused with 401 or 403 for {'; '.join(accepted)}"
    return "ok", "a wrong key and a missing one are refused"


def _trace() -> str:
    return f"trace_{uuid.uuid4()}"


def _word() -> str:
    """Letters only: a tool that takes words takes it, and nothing else is spelled so."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz") for _ in range(12))


def _unsteady(one: Sequence[str], two: Sequence[str]) -> str:
    number = next((n for n, (a, b) in enumerate(zip(one, two, strict=True)) if a != b), 0)
    return f"equal calls of two rollouts are answered differently{_difference(one[number], two[number])}"


def _difference(one: str, two: str) -> str:
    return f" (once{excerpt(one)[:60]}, then{excerpt(two)[:60]})"


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {f"p{p}_seconds": ordered[max(0, -(-p * len(ordered) // 100) - 1)] for p in (50, 95, 99)}


def _shown(seconds: Sequence[float]) -> str:
    return ", ".join(
        f"{name.removesuffix('_seconds')} {1000 * value:.0f} ms" for name, value in _quantiles(seconds).items()
    )
