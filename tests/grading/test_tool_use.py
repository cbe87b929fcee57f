"""Process quality: each rule has its credit, the weighted mean is the score, and what is not known is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from agentrl.config.graders import ToolUseConfig
from agentrl.grading import Submission, build_declared
from agentrl.types import Grade, Rollout, ToolCall, ToolResult
from tests.factories import make_rollout


def episode(*calls: str, malformed: int = 0) -> Rollout:
    """Calls as `tool`, `tool:argument` and `!tool` (answered by an error), one a turn."""
    names = [call.lstrip("!").partition(":")[0] for call in calls]
    rollout = make_rollout(tools=names, tokens=100)
    turns = []
    for index, (turn, call) in enumerate(zip(rollout.turns, calls, strict=False)):
        argument = call.partition(":")[2] or str(index)
        made = ToolCall(f"call_{index}", names[index], json.dumps({"q": argument}))
        result = ToolResult(made.id, made.name, "text", 0.01, is_error=call.startswith("!"))
        turns.append(replace(turn, tool_calls=(made,), tool_results=(result,)))
    last = replace(rollout.turns[-1], malformed_calls=malformed)
    return replace(rollout, turns=(*turns, last))


def grade(rollout: Rollout | Submission, **config: Any) -> Grade:
    submission = rollout if isinstance(rollout, Submission) else Submission.of_rollout(rollout)
    return asyncio.run(build_declared(ToolUseConfig(type="tool_use", **config)).grade(submission))


def sample(*calls: tuple[str, str]) -> Submission:
    """An answer without an episode, with its calls as chat completions write them."""
    submission = Submission.of_text("42", {})
    tools = [{"id": "c", "type": "function", "function": {"name": name, "arguments": text}} for name, text in calls]
    return replace(submission, sample={**submission.sample, "output_tools": tools})


@pytest.mark.parametrize(
    ("calls", "config", "rule", "credit"),
    [
        (("search", "cat"), {"required": ["search", "cat"]}, "required", 1.0),
        (("search",), {"required": ["search", "cat"]}, "required", 0.5),
        (("search", "!cat"), {"required": ["search", "cat"]}, "required", 0.5),
        ((), {"required": ["search", "cat"]}, "required", 0.0),
        (("search", "cat"), {"before": [["search", "cat"]]}, "before", 1.0),
        (("cat", "search", "cat"), {"before": [["search", "cat"]]}, "before", 0.0),
        (("!search", "cat", "search"), {"before": [["search", "cat"]]}, "before", 0.0),
        (("search",), {"before": [["search", "cat"]]}, "before", 1.0),
        (("a", "b"), {"before": [["a", "b"], ["b", "a"]]}, "before", 0.5),
        (("a:1", "a:1", "a:1", "a:2"), {}, "identical", 0.5),
        (("a:1", "a:1"), {"max_identical": 1}, "identical", 1.0),
        (("a:1", "b:1"), {}, "identical", 1.0),
        (("a", "a", "a", "b"), {"max_in_a_row": 2}, "in_a_row", 2 / 3),
        (("a", "b", "a", "b"), {"max_in_a_row": 1}, "in_a_row", 1.0),
        (("a", "a", "a", "a"), {"max_calls": 4}, "budget", 1.0),
        (("a", "a", "a", "a", "a"), {"max_calls": 4}, "budget", 0.75),
        (("a",) * 9, {"max_calls": 4}, "budget", 0.0),
        (("a", "!b", "!c", "d"), {}, "errors", 0.5),
        (("a", "!b", "!c", "d"), {"max_error_fraction": 0.5}, "errors", 1.0),
        (("a", "!b", "!c", "!d"), {"max_error_fraction": 0.5}, "errors", 0.5),
        ((), {}, "errors", 1.0),
    ],
)
def test_each_rule_has_its_credit(calls: Sequence[str], config: dict[str, Any], rule: str, credit: float) -> None:
    assert grade(episode(*calls), **config).sub_scores[rule] == pytest.approx(credit)


def test_malformed_calls_cost_their_share_of_what_was_tried() -> None:
    assert grade(episode("a", "b", "c", malformed=1)).sub_scores["malformed"] == pytest.approx(0.75)
    assert grade(episode("a", malformed=1), max_malformed=1).sub_scores["malformed"] == 1.0
    assert grade(episode(malformed=2)).sub_scores["malformed"] == 0.0


def test_the_score_is_the_weighted_mean_and_the_explanation_names_the_calls() -> None:
    found = grade(episode("cat:a", "cat:a"), required=["search"], weights={"required": 2.0, "errors": 0.0})
    assert found.sub_scores == {"required": 0.0, "identical": 0.5, "malformed": 1.0}
    assert found.score == pytest.approx((2 * 0.0 + 0.5 + 1.0) / 4)
    assert "no answered call of search" in found.explanation
    assert 'cat({"q": "a"}) 2 times' in found.explanation


def test_a_faultless_episode_scores_1() -> None:
    found = grade(episode("search", "cat"), required=["search"], before=[["search", "cat"]], max_calls=5)
    assert (found.score, found.explanation) == (1.0, "2 calls, no rule broken")


def test_arguments_are_the_same_whatever_the_order_of_their_keys() -> None:
    found = grade(sample(("a", '{"x": 1, "y": 2}'), ("a", '{"y":2,"x":1}')))
    assert found.sub_scores["identical"] == 0.5


def test_without_an_episode_the_calls_of_the_sample_are_looked_at() -> None:
    found = grade(sample(("search", '{"q": 1}'), ("cat", "not json")), required=["search"], before=[["search", "cat"]])
    assert found.sub_scores == {"required": 1.0, "before": 1.0, "identical": 1.0, "malformed": 0.5}
    assert "errors: not known without the episode" in found.explanation


def test_where_nothing_is_known_there_is_no_score() -> None:
    found = grade(sample(), max_identical=None, max_malformed=None)
    assert (found.score, found.errors) == (None, ("other_error",))


@pytest.mark.parametrize("tools", [None, 7, ["x"], [{}], [{"function": {"name": 3, "arguments": {"a": 1}}}],
                                   [{"function": {"name": "a", "arguments": "[" * 50_000}}]])  # fmt: skip
def test_a_strange_sample_is_graded_all_the_same(tools: Any) -> None:
    submission = Submission.of_text("42", {})
    found = grade(replace(submission, sample={**submission.sample, "output_tools": tools}))
    assert found.score is not None
    assert 0 <= found.score <= 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"weights": {"requird": 1.0}}, "did you mean 'required'"),
        ({"max_identical": None, "max_error_fraction": None, "max_malformed": None}, "no rule with a weight"),
        ({"before": [["a", "a"]]}, "found 'a' twice"),
    ],
)
def test_a_wrong_declaration_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ToolUseConfig(type="tool_use", **config)
