"""The checks of one tool: what a run would find out too late.

A tool is called with `check_arguments`. A `{marker}` in them becomes a word that no other call has, so that an output
which repeats it shows what the server remembers, and of whom; without a marker, outputs of repeated calls are
compared. What cannot be seen this way is said to be not observed, never to be good.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

from agentrl.config import ToolEndpointConfig
from agentrl.endpoint import excerpt
from agentrl.errors import RolloutError, SandboxError
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
from agentrl.tools.checks.leakage import is_strong, mentions, references
from agentrl.tools.endpoint_tool import EndpointTool
from agentrl.tools.lifecycle import Lifecycle
from agentrl.types import Task, ToolCall, ToolResult

MARKER = "{marker}"
CALLS = 4
"""Of one trace, where it is asked whether state is kept; two workers lose it once in eight tries by then."""
LATENCY_CALLS = 20
LEAK_TASKS = 8
WHOLE_OUTPUT = 2**20


async def check_tool(
    config: ToolEndpointConfig,
    tasks: Sequence[Task],
    *,
    burst: int,
    base_url: str = "",
    lifecycle: Lifecycle | None = None,
) -> list[Finding]:
    """Everything that can be found out about one tool.

    Args:
        tasks: real ones; the first is sent as `item` where only one is needed.
        burst: calls at once.
        base_url: what `{serve}` stands for.
        lifecycle: opens a sandbox for each rollout that is called under.

    Raises:
        ConfigError: the URL or a header cannot be used.
    """
    traces = Traces(lifecycle)
    probe = ToolProbe(config, tasks, base_url, traces)
    checks = (probe.auth, probe.latency, probe.state, probe.isolation, probe.idempotency, probe.leakage)
    found = [await probe.reachable()]
    await traces.close()
    for check in (*checks, partial(probe.burst, burst)) if found[0].result != "failed" else ():
        try:
            found.append(await check())
        except SandboxError as error:
            return [*found, Finding(f"tool {config.name}", "sandbox", "failed", str(error))]
        finally:
            await traces.close()
    return found


class ToolProbe:
    """The checks of one tool."""

    def __init__(self, config: ToolEndpointConfig, tasks: Sequence[Task], base_url: str, traces: Traces) -> None:
        self._config = config.model_copy(update={"retries": 0})  # what a retry would hide is what is looked for
        self._tasks, self._base_url, self._traces = tasks, base_url, traces
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
        self, trace: str = "", *, marker: str = "", call_id: str = "", item: dict[str, Any] | None = None
    ) -> ToolResult:
        """One call, in a rollout of its own where none is named."""
        tool, item = self._tool(), self._item if item is None else item
        written = self._written.replace(MARKER, marker or _word())
        call = ToolCall(call_id or f"call_{uuid.uuid4().hex[:12]}", self._config.name, written)
        try:
            return await tool.call(call, rollout_id=trace or await self._traces.new(item), item=item)
        finally:
            await tool.aclose()

    async def reachable(self) -> Finding:
        try:
            result = await self._call()
        except RolloutError as error:
            return self._found("reachable", "failed", str(error))
        if result.is_error:
            return self._found(
                "reachable", "warning", f"refuses {self._written}{excerpt(result.output)}; {self._can_write}"
            )
        return self._found("reachable", "ok", f"answers {self._written}, in the format of the protocol")

    async def auth(self) -> Finding:
        accepted, problem = [], ""
        for what, headers in wrong_headers(self._config.headers).items():
            tool = self._tool(headers=headers)
            call = ToolCall("call_auth", self._config.name, self._written.replace(MARKER, _word()))
            trace = await self._traces.new(self._item)
            body = tool.request_body(call, rollout_id=trace, item=self._item)
            status, problem = await status_of(tool.endpoint, body, trace)
            await tool.aclose()
            if status not in REFUSED:
                accepted.append(f"{what}: {problem or f'answered {status}'}")
        return self._found("auth", *judged_auth(self._config.headers, accepted))

    async def latency(self) -> Finding:
        tool, seconds = self._tool(), []
        try:
            for _ in range(LATENCY_CALLS):
                call = ToolCall("call_latency", self._config.name, self._written.replace(MARKER, _word()))
                trace = await self._traces.new(self._item)
                seconds.append((await tool.call(call, rollout_id=trace, item=self._item)).seconds)
        except RolloutError as error:
            return self._found("latency", "failed", f"call {len(seconds) + 1} of {LATENCY_CALLS}: {error}")
        finally:
            await tool.aclose()
        return self._found(
            "latency", "ok", f"{LATENCY_CALLS} calls in turn: {shown_times(seconds)}", quantiles(seconds)
        )

    async def state(self) -> Finding:
        """Is what one call of a trace did still there for the next, whichever worker answers it?"""
        try:
            outputs, markers = await self._sequence(await self._traces.new(self._item))
            again, _ = await self._sequence(await self._traces.new(self._item))
        except RolloutError as error:
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
        first, second = await self._traces.new(self._item), await self._traces.new(self._item)
        try:
            alone, _ = await self._sequence(await self._traces.new(self._item))
            mine: list[str] = []
            theirs: list[str] = []
            words: tuple[list[str], list[str]] = ([], [])
            for _ in range(CALLS):
                for trace, outputs, said in ((first, mine, words[0]), (second, theirs, words[1])):
                    said.append(_word())
                    outputs.append((await self._call(trace, marker=said[-1])).output)
        except RolloutError as error:
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
        if len({*mine, *theirs, *alone}) == 1:
            detail = f"the same call is answered alike, whoever made it; {self._can_write}"
            return self._found("isolation", "not observed", detail)
        if mine == theirs == alone:
            return self._found("isolation", "ok", "two interleaved rollouts are answered as one alone is")
        return self._found("isolation", "not observed", f"{_unsteady(mine, theirs)}; {self._can_write}")

    async def idempotency(self) -> Finding:
        trace, marker, call_id = await self._traces.new(self._item), _word(), f"call_{uuid.uuid4().hex[:12]}"
        try:
            one, two = [(await self._call(trace, marker=marker, call_id=call_id)).output for _ in range(2)]
        except RolloutError as error:
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
            outputs = [(await self._call(item=task.item)).output for task in self._tasks[:LEAK_TASKS]]
        except RolloutError as error:
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
        traces = [await self._traces.new(self._item) for _ in range(size)]

        async def one(number: int) -> float:
            return (await self._call(traces[number])).seconds

        return self._found("burst", *await burst_of(size, one))

    async def _sequence(self, trace: str) -> tuple[list[str], list[str]]:
        """Outputs of calls of one trace, one after the other, and the word that each of them brought."""
        markers = [_word() for _ in range(CALLS)]
        return [(await self._call(trace, marker=marker)).output for marker in markers], markers


def _word() -> str:
    """Letters only: a tool that takes words takes it, and nothing else is spelled so."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz") for _ in range(12))


def _unsteady(one: Sequence[str], two: Sequence[str]) -> str:
    number = next((n for n, (a, b) in enumerate(zip(one, two, strict=True)) if a != b), 0)
    return f"equal calls of two rollouts are answered differently{_difference(one[number], two[number])}"


def _difference(one: str, two: str) -> str:
    return f" (once{excerpt(one)[:60]}, then{excerpt(two)[:60]})"
