"""Records for tests, complete and cheap: say what the test is about, the rest is filled in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentrl.types import Grade, Rollout, StopReason, Task, ToolCall, ToolResult, Turn


def make_task(task_id: str = "t1", **item: Any) -> Task:
    """A one-question task; keyword arguments become the row's other keys."""
    return Task(id=task_id, messages=({"role": "user", "content": f"What is {task_id}?"},), item=item)


def make_rollout(
    task_id: str = "t1",
    sample_index: int = 0,
    score: float | None = 1.0,
    tools: Sequence[str] = ("search", "cat"),
    tokens: int = 10,
    stop_reason: StopReason = StopReason.FINAL,
    *,
    seconds: float = 1.0,
    answer: str = "42",
    output: str = "some text",
    policy_version: int = 0,
    **fields: Any,
) -> Rollout:
    """One call a turn, then the answer; `score=None` is ungraded.

    Args:
        tokens: sampled over all turns, at least one for each call and one for the answer.
        output: of every tool call.
        fields: any other field of Rollout, as it is.
    """
    n_turns = len(tools) + 1
    if tokens < n_turns:
        raise ValueError(f"{n_turns} turns need at least {n_turns} tokens, not {tokens}")
    sizes = [tokens // n_turns] * len(tools)
    sizes.append(tokens - sum(sizes))
    turns = tuple(_turn(index, name, sizes[index], output, policy_version) for index, name in enumerate(tools))
    final = replace(_turn(len(tools), "", sizes[-1], "", policy_version), text=answer, tool_calls=(), tool_results=())
    rollout = Rollout(
        id=f"trace_{task_id}-{sample_index}",
        task=make_task(task_id),
        sample_index=sample_index,
        seed=sample_index,
        prompt_ids=(1, 2, 3),
        turns=(*turns, replace(final, observation_ids=())),
        stop_reason=stop_reason,
        answer=answer,
        seconds=seconds,
        grade=Grade(score) if score is not None else Grade(None, "grader refused the connection"),
    )
    return replace(rollout, **fields)


def _turn(index: int, tool: str, size: int, output: str, policy_version: int) -> Turn:
    call = ToolCall(id=f"call_{index}", name=tool, arguments=json.dumps({"query": f"item {index}"}))
    return Turn(
        token_ids=tuple(range(10, 10 + size)),
        engine_logprobs=tuple(-0.1234567 * (position + 1) for position in range(size)),
        text=f'<tool_call>{{"name": "{tool}", "arguments": {call.arguments}}}</tool_call>',
        tool_calls=(call,),
        tool_results=(ToolResult(call_id=call.id, name=tool, output=output, seconds=0.01),),
        observation_ids=(7, 8),
        policy_version=policy_version,
        seconds=0.2,
    )
