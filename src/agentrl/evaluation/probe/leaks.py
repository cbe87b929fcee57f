"""Do tools give the answer away? A policy that is told the answer learns to ask for it, no more.

A page that holds the answer is what a search is for. What is suspect is an output that follows the row's answer
whatever is asked: so each tool is called with arguments that were meant for another item, once for this item and once
for a third, and what counts is an output that holds this item's answer while the same call for the other item does not.
Then the answer in the row is replaced by a made-up one: a tool that tells that, too, reads it to the policy. One that
does not has it from somewhere else, which may be as it should, such as a document that belongs to the item.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.config import ToolsConfig
from agentrl.errors import RolloutError
from agentrl.tools.checks.leakage import is_strong, mentions, references
from agentrl.tools.lifecycle import Lifecycle
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Rollout, Task, ToolCall

ITEMS = 8
"""Tried with each tool."""
CONFIRMATIONS = 2
"""Times that a suspected leak has to show itself again: an output may be random."""


@dataclass(frozen=True)
class Leak:
    """An answer that a tool gave for nothing."""

    tool: str
    task_id: str
    key: str
    """Where the row holds that answer."""
    is_strong: bool
    """Hardly to be found in a text by chance."""
    is_read: bool
    """A made-up answer in its place was told as well."""


@dataclass(frozen=True)
class ToolLeaks:
    """What was found out about the tools."""

    items_tried: int
    calls: int
    unobserved: tuple[str, ...]
    """Tools that failed when they were called so, or were not called: nothing is known of them."""
    leaks: tuple[Leak, ...]
    sent: dict[str, tuple[str, ...]]
    """Tool -> keys of the row that look like its answer and that the tool is sent."""

    @property
    def tools(self) -> tuple[str, ...]:
        """Those that read the row's answer to the policy."""
        return tuple(sorted({leak.tool for leak in self.leaks if leak.is_read}))

    @property
    def telling(self) -> tuple[str, ...]:
        """Those that have the answer from elsewhere and tell it unasked: a strong one, or two."""
        by_tool: dict[str, list[Leak]] = {}
        for leak in self.leaks:
            by_tool.setdefault(leak.tool, []).append(leak)
        sure = {name for name, found in by_tool.items() if len(found) > 1 or any(each.is_strong for each in found)}
        return tuple(sorted(sure - set(self.tools)))


async def tool_leaks(
    toolbox: Toolbox,
    tasks: Sequence[Task],
    rollouts: Sequence[Rollout],
    *,
    config: ToolsConfig | None = None,
    lifecycle: Lifecycle | None = None,
) -> ToolLeaks:
    """Call every tool for some items with arguments that were meant for others.

    Args:
        rollouts: their calls are where the arguments come from.
        config: what endpoints are sent, and their `check_arguments` where the policy never called them.
        lifecycle: opens a sandbox for each call.
    """
    answers = {task.id: references(task.item) for task in tasks}
    chosen = [task for task in tasks if answers[task.id]]
    chosen = sorted(chosen, key=lambda task: -any(map(is_strong, answers[task.id].values())))[:ITEMS]
    tried = _Tried(toolbox, lifecycle)
    leaks: list[Leak] = []
    unobserved: list[str] = []
    if len(chosen) > 1:
        for name in toolbox.names:
            written = _arguments(name, rollouts, config, toolbox)
            try:
                leaks += [leak for task in chosen for leak in await tried.item(name, task, chosen, written)]
            except RolloutError:
                unobserved.append(name)
    else:
        unobserved += toolbox.names
    return ToolLeaks(len(chosen), tried.calls, tuple(unobserved), tuple(leaks), sent_answers(config, tasks))


class _Tried:
    """Calls of tools outside of any episode, each under a rollout id of its own."""

    def __init__(self, toolbox: Toolbox, lifecycle: Lifecycle | None) -> None:
        self._toolbox, self._lifecycle = toolbox, lifecycle
        self.calls = 0

    async def item(
        self, tool: str, task: Task, tasks: Sequence[Task], written: Sequence[tuple[str, str]]
    ) -> list[Leak]:
        """The answers of one item that one tool gives away.

        Args:
            written: (task id, arguments) of calls that were made.
        """
        meant_for_others = [arguments for task_id, arguments in written if task_id != task.id] or ["{}"]
        arguments = meant_for_others[tasks.index(task) % len(meant_for_others)]
        others = [other for other in tasks if other.id != task.id]
        other = others[tasks.index(task) % len(others)]
        read = await self._reads(tool, arguments, task)
        for _ in range(1 + CONFIRMATIONS):
            mine, theirs = await asyncio.gather(self._call(tool, arguments, task), self._call(tool, arguments, other))
            found = [
                Leak(tool, task.id, key, is_strong(answer), key in read)
                for key, answer in references(task.item).items()
                if mentions(mine, answer) and not mentions(theirs, answer) and not mentions(arguments, answer)
            ]
            if not found:
                return []
        return found

    async def _reads(self, tool: str, arguments: str, task: Task) -> set[str]:
        """Keys of the row whose made-up answers the tool tells; none where it fails on them."""
        made_up = {key: _made_up(task.item[key]) for key in references(task.item)}
        try:
            output = await self._call(tool, arguments, replace(task, item=task.item | made_up))
        except RolloutError:
            return set()
        return {key for key, answer in made_up.items() if mentions(output, str(answer))}

    async def _call(self, tool: str, arguments: str, task: Task) -> str:
        self.calls += 1
        rollout_id = f"trace_{uuid.uuid4()}"
        try:
            if self._lifecycle is not None:
                await self._lifecycle.open(rollout_id, task.item)
            call = ToolCall(f"call_{uuid.uuid4().hex[:12]}", tool, arguments)
            (result,) = await self._toolbox.run([call], rollout_id=rollout_id, item=task.item)
            return result.output
        finally:
            await self._toolbox.end_rollout(rollout_id)
            if self._lifecycle is not None:
                await self._lifecycle.close(rollout_id)


def _made_up(answer: Any) -> Any:
    """Of the same type, a number where it was one, and nothing that a text holds by chance."""
    number = secrets.randbelow(9 * 10**8) + 10**8
    if isinstance(answer, str):
        return (
            str(number) if any(map(str.isdigit, answer)) else "".join(secrets.choice("bcdfghjklm") for _ in range(16))
        )
    return float(number) if isinstance(answer, float) else number


def _arguments(
    tool: str, rollouts: Sequence[Rollout], config: ToolsConfig | None, toolbox: Toolbox
) -> list[tuple[str, str]]:
    """(task id, arguments) of a tool's calls, else what can be made up."""
    found = [
        (rollout.task.id, call.arguments) for rollout in rollouts for call in rollout.tool_calls if call.name == tool
    ]
    if found:
        return found
    for endpoint in config.endpoints if config else ():
        if endpoint.name == tool:
            return [("", json.dumps(endpoint.check_arguments))]
    described: dict[str, Any] = next(
        (each["function"] for each in toolbox.descriptions if each["function"]["name"] == tool), {}
    )
    return [("", json.dumps(_stand_in(described.get("parameters") or {})))]


def _stand_in(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the right types that mean nothing."""
    values: dict[str, Any] = {"string": "x", "integer": 1, "number": 1.0, "boolean": False, "array": [], "object": {}}
    parameters = schema.get("properties") or {}
    return {name: values.get(parameters[name].get("type"), "x") for name in schema.get("required") or parameters}


def sent_answers(config: ToolsConfig | None, tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """Tools that are sent what looks like the row's answer, and the keys of it."""
    keys = sorted({key for task in tasks for key in references(task.item)})
    found = {}
    for endpoint in config.endpoints if config else ():
        fields = endpoint.item_fields
        sent = keys if fields == "all" else [] if fields == "none" else [key for key in keys if key in fields]
        if sent:
            found[endpoint.name] = tuple(sent)
    return found


def first_output_holds_answer(rollout: Rollout) -> bool | None:
    """Whether the first tool output holds an answer that is not found by chance; None where there is none to look for.

    A good search may do that. Where it is so in most episodes, the task asks for one call and no thought.
    """
    strong = [answer for answer in references(rollout.task.item).values() if is_strong(answer)]
    results = [result for turn in rollout.turns for result in turn.tool_results]
    if not strong or not results:
        return None
    return any(mentions(results[0].output, answer) for answer in strong)
