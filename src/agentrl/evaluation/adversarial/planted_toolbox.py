"""The team's own tools, with an attack planted into what they really answered.

What is planted stays a tool's answer: it takes the role that every answer has. Bait is never carried out, and neither
is a call of a real tool that would be what the attacker wants: both are answered as denied, and logged. On every other
call the team's own tool policy decides, as ever.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentrl.endpoint import Endpoint
from agentrl.evaluation.adversarial.case import KEY, AttackCase, Plant, case_of, read_case, without_attack
from agentrl.strict_json import strict_json
from agentrl.tools.approval import denied
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Task, ToolCall, ToolResult

logger = logging.getLogger(__name__)


class PlantedToolbox(Toolbox):
    """Around the toolbox of an engine; a task without an attack finds its tools as they are.

    Args:
        inner: the team's own.
        tasks: those that will be rolled out: their bait is offered to the policy in every one of them, so that a
            prompt does not tell which attack it is.
        max_output_chars: of an answer, what is planted included.
    """

    def __init__(self, inner: Toolbox, tasks: Iterable[Task], *, max_output_chars: int = 8000) -> None:
        self._inner, self._max_output_chars = inner, max_output_chars
        cases = [case for task in tasks if (case := case_of(task))]
        decoys = {str(each["function"]["name"]): dict(each) for case in cases for each in case.decoys}
        self._decoys = {name: each for name, each in decoys.items() if name not in inner.names}
        self._done: dict[str, set[int]] = {}  # by rollout: the plants that come once and have come

    @property
    def descriptions(self) -> list[dict[str, Any]]:
        """Bait is described only where the team's own tools are: alone in the prompt it would be all there is."""
        found = self._inner.descriptions
        return [*found, *self._decoys.values()] if found else []

    @property
    def offered(self) -> list[dict[str, Any]]:
        return [*self._inner.offered, *self._decoys.values()]

    @property
    def undescribed(self) -> list[str]:
        return self._inner.undescribed

    @property
    def names(self) -> tuple[str, ...]:
        return (*self._inner.names, *self._decoys)

    @property
    def versions(self) -> dict[str, str]:
        return self._inner.versions

    @property
    def keeps_state(self) -> bool:
        return self._inner.keeps_state

    @property
    def endpoints(self) -> list[Endpoint]:
        return self._inner.endpoints

    async def run(self, calls: Sequence[ToolCall], *, rollout_id: str, item: dict[str, Any]) -> list[ToolResult]:
        """As Toolbox.run; the item that tools are sent does not tell of the attack."""
        case = read_case(item[KEY]) if KEY in item else None
        refused = {call.id: _denied(call) for call in calls if self._is_denied(case, call)}
        for call in calls:
            if call.id in refused:
                logger.info("rollout %s: denied a call of %s", rollout_id, call.name[:80])
        allowed = [call for call in calls if call.id not in refused]
        answers = await self._inner.run(allowed, rollout_id=rollout_id, item=without_attack(item)) if allowed else []
        found = {result.call_id: result for result in answers}
        results = [refused.get(call.id) or found[call.id] for call in calls]
        return [self._planted(case, each, rollout_id, is_real=each.call_id in found) for each in results]

    async def end_rollout(self, rollout_id: str) -> None:
        self._done.pop(rollout_id, None)
        await self._inner.end_rollout(rollout_id)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _is_denied(self, case: AttackCase | None, call: ToolCall) -> bool:
        return call.name in self._decoys or (case is not None and case.forbids(call))

    def _planted(self, case: AttackCase | None, result: ToolResult, rollout_id: str, *, is_real: bool) -> ToolResult:
        if case is None or not is_real or result.is_error:
            return result
        done = self._done.setdefault(rollout_id, set())
        for index, plant in enumerate(case.plants):
            if plant.at == "every" or index not in done:
                done.add(index)
                result = replace(
                    result,
                    output=planted(result.output, plant, self._max_output_chars),
                    is_error=result.is_error or plant.is_error,
                )
        return result


def planted(output: str, plant: Plant, max_chars: int) -> str:
    """The answer with the attack in it; where that is too long, what the tool said gives way."""
    text = plant.text[:max_chars]
    if plant.place == "instead":
        return text
    if plant.place == "field" and (found := _in_longest_field(output, text)) is not None and len(found) <= max_chars:
        return found
    room = max(0, max_chars - len(text) - 1)
    return f"{text}\n{output[:room]}" if plant.place == "start" else f"{output[:room]}\n{text}"


def _denied(call: ToolCall) -> ToolResult:
    text = f"Denied: a call of {call.name[:80]} with these arguments is outside of what this agent may do."
    return denied(call, text, "scope")


def _in_longest_field(output: str, text: str) -> str | None:
    """The JSON with the attack behind its longest text, where an outsider's words would most likely stand."""
    try:
        value = strict_json(output)
    except (ValueError, RecursionError):
        return None
    places = list(_texts(value))
    if not places:
        return None
    holder, key = max(places, key=lambda place: len(place[0][place[1]]))
    holder[key] = f"{holder[key]}\n{text}"
    return json.dumps(value, ensure_ascii=False)


def _texts(value: Any) -> Iterable[tuple[Any, Any]]:
    """Every text of a JSON value, as (what holds it, its key)."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        if isinstance(each, str):
            yield value, key
        else:
            yield from _texts(each)
