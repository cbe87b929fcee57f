"""Sessions of every kind, for the tests of records and spans."""

from __future__ import annotations

from dataclasses import replace

from agentrl.chat import BUDGET_SPENT
from agentrl.monitoring.session_record import ReleaseChannel, SessionContext
from agentrl.types import FailureClass, Grade, Rollout, StopReason, ToolCall, ToolResult
from tests.factories import make_rollout

ROLLOUT_ID = "trace_0123abcd-0000-4000-8000-00000000cafe"
CONTEXT = SessionContext(
    run_id="finqa",
    agent="finqa-agent",
    file="validation-000005",
    model_version="sha256:abc",
    reward_model_version="judge-2",
    grader="judge",
    pass_threshold=0.5,
    tools=("search", "cat"),
    price_table="sha256:prices",
    release_channel=ReleaseChannel.OFFLINE_EVAL,
)


def answered() -> Rollout:
    """Two calls, the second one answered with an error and retried; graded in parts, beside hold-outs."""
    rollout = make_rollout("t1", 2, 0.75, seconds=1.5, tokens=12, id=ROLLOUT_ID, policy_version=5, cost_usd=0.25)
    first, second, last = rollout.turns
    result = replace(second.tool_results[0], is_error=True, attempts=3, seconds=0.25)
    second = replace(second, tool_results=(result,), reasoning_tokens=2)
    grade = Grade(
        0.75,
        seconds=0.125,
        sub_scores={"right": 1.0, "short": 0.5},
        version="sha256:judge",
        cost_usd=0.01,
        explanation="The number is right; ask jane.doe@example.org.",
        holdout={"strict": 0.25},
        holdout_missing={"slow": "no answer"},
    )
    return replace(rollout, turns=(first, second, last), grade=grade)


def broken(failure: FailureClass) -> Rollout:
    """Infrastructure ended it after one turn; of a tool, while two calls of the turn were under way."""
    rollout = make_rollout("t2", 0, None, tools=("search",), tokens=4, seconds=2.0, id="not-a-uuid", policy_version=5)
    turn = rollout.turns[0]
    if failure in (FailureClass.TOOL, FailureClass.SANDBOX):
        calls = (*turn.tool_calls, ToolCall("call_9", "cat", "{}"))
        turn = replace(turn, tool_calls=calls, tool_results=(), observation_ids=())
    stop = StopReason.TIME_LIMIT if failure is FailureClass.TIME else StopReason.INFRASTRUCTURE
    return replace(rollout, turns=(turn,), stop_reason=stop, broken_by=failure, answer="", error="secret words")


def misbehaved() -> Rollout:
    """It calls what does not exist, by a name of many characters, and goes on after its budget is spent."""
    rollout = make_rollout("t3", 0, 0.0, tools=("search",), tokens=4, stop_reason=StopReason.TOOL_BUDGET)
    turn, last = rollout.turns
    made_up = ToolCall("call_8", "\x1b[31mé" * 200, "{}")
    refused = ToolCall("call_9", "cat", "{}")
    results = (
        *turn.tool_results,
        ToolResult("call_8", made_up.name, "Unknown tool.", 0.0, is_error=True),
        ToolResult("call_9", "cat", BUDGET_SPENT, 0.0, is_error=True),
    )
    turn = replace(turn, tool_calls=(*turn.tool_calls, made_up, refused), tool_results=results, malformed_calls=1)
    return replace(rollout, turns=(turn, last))
