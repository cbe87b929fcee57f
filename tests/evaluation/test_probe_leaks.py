"""A tool that follows the row's answer is found; one that finds what it is asked for is not accused."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import Any, ClassVar

from agentrl.config import ToolEndpointConfig, ToolsConfig
from agentrl.errors import ToolError
from agentrl.evaluation.probe.leaks import ToolLeaks, first_output_holds_answer, sent_answers, tool_leaks
from agentrl.evaluation.probe.twins import twins
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Rollout, Task, ToolCall, ToolResult
from tests.factories import make_rollout

TASKS = [
    Task(f"t{n}", ({"role": "user", "content": f"What is number {n}?"},), {"answer": str(71_000 + 13 * n)})
    for n in range(10)
]
PAGES = {f"item {n}": f"page {n} says {task.item['answer']}" for n, task in enumerate(TASKS)}


class Tool:
    """Answers by a function of its arguments and of the row."""

    name = "look"

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.ended: list[str] = []

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        del rollout_id
        return ToolResult(call.id, call.name, self._answer(json.loads(call.arguments), item), 0.0)

    async def end_rollout(self, rollout_id: str) -> None:
        self.ended.append(rollout_id)

    async def aclose(self) -> None:
        pass


def asked(number: int) -> Rollout:
    found = make_rollout(f"t{number}", tools=["look"])
    call = ToolCall("c", "look", json.dumps({"query": f"item {number}"}))
    return replace(found, turns=(replace(found.turns[0], tool_calls=(call,)), found.turns[1]))


ROLLOUTS = [asked(n) for n in range(10)]


def found_in(answer: Any, tasks: list[Task] = TASKS) -> ToolLeaks:
    return asyncio.run(tool_leaks(Toolbox([Tool(answer)]), tasks, ROLLOUTS))


def test_a_tool_that_tells_the_answer_whatever_it_is_asked_leaks() -> None:
    found = found_in(lambda _, item: f"you may want to know: {item['answer']}")
    assert found.tools == ("look",)
    assert len(found.leaks) == found.items_tried == 8
    assert found.leaks[0].key == "answer"


def test_a_document_that_belongs_to_the_item_is_told_apart_from_its_answer() -> None:
    pages = {task.item["answer"]: task.item | {"page": f"sold {task.item['answer']} units"} for task in TASKS}
    documents = [replace(task, item=pages[task.item["answer"]]) for task in TASKS]
    found = found_in(lambda _, item: item["page"], documents)
    assert (found.tools, found.telling) == ((), ("look",))
    both = found_in(lambda _, item: json.dumps(item), documents)
    assert (both.tools, both.telling) == (("look",), ())


def test_a_search_that_finds_the_page_with_the_answer_does_not() -> None:
    found = found_in(lambda arguments, _: PAGES.get(arguments["query"], "nothing"))
    assert (found.tools, found.leaks, found.unobserved) == ((), (), ())
    assert found.calls == 24


def test_a_tool_that_answers_at_random_does_not() -> None:
    draw = random.Random(0)
    yes_or_no = [Task(f"t{n}", TASKS[n].messages, {"answer": ("yes", "no")[n % 2]}) for n in range(10)]
    accused = [found_in(lambda *_: draw.choice(["yes", "no"]), yes_or_no).telling for _ in range(50)]
    assert sum(map(bool, accused)) <= 2


def test_a_short_answer_counts_only_when_it_is_told_twice() -> None:
    short = [Task(f"t{n}", TASKS[n].messages, {"answer": str(n)}) for n in range(10)]
    assert found_in(lambda _, item: item["answer"], short).tools == ("look",)
    once = found_in(lambda _, item: item["answer"] if item["answer"] == "3" else "x", short)
    assert (once.tools, once.telling, len(once.leaks)) == ((), (), 1)


def test_a_tool_that_fails_is_not_known_of() -> None:
    def fail(*_: Any) -> str:
        raise ToolError("down")

    assert found_in(fail).unobserved == ("look",)


def test_without_answers_in_the_rows_nothing_can_be_known() -> None:
    found = found_in(lambda *_: "x", [Task(f"t{n}", TASKS[n].messages, {}) for n in range(10)])
    assert (found.items_tried, found.calls, found.unobserved) == (0, 0, ("look",))


def test_every_call_is_an_episode_of_its_own_and_is_ended() -> None:
    tool = Tool(lambda *_: "x")
    found = asyncio.run(tool_leaks(Toolbox([tool]), TASKS, ROLLOUTS))
    assert len(set(tool.ended)) == found.calls


def test_a_tool_that_the_policy_never_called_is_called_with_arguments_of_the_right_types() -> None:
    class Described(Tool):
        description: ClassVar[dict[str, Any]] = {
            "type": "function",
            "function": {
                "name": "look",
                "parameters": {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]},
            },
        }

    seen = []
    tool = Described(lambda arguments, item: seen.append(arguments) or item["answer"])
    assert asyncio.run(tool_leaks(Toolbox([tool]), TASKS, [])).tools == ("look",)
    assert seen[0] == {"a": 1}


def test_what_tools_are_sent_is_read_from_their_item_fields() -> None:
    def endpoint(name: str, fields: Any) -> ToolEndpointConfig:
        return ToolEndpointConfig(name=name, server_url="http://127.0.0.1:1/x", item_fields=fields)

    config = ToolsConfig(
        endpoints=(
            endpoint("all", "all"),
            endpoint("none", "none"),
            endpoint("some", ["answer"]),
            endpoint("id", ["id"]),
        )
    )
    assert sent_answers(config, TASKS) == {"all": ("answer",), "some": ("answer",)}
    assert sent_answers(None, TASKS) == {}


def test_a_first_output_that_holds_the_answer_is_seen() -> None:
    def rollout(output: str, **item: Any) -> Rollout:
        found = make_rollout("t1", output=output)
        return replace(found, task=replace(found.task, item=item))

    assert first_output_holds_answer(rollout("it is 71,013", answer="71013")) is True
    assert first_output_holds_answer(rollout("it is 71,014", answer="71013")) is False
    assert first_output_holds_answer(rollout("it is 7", answer="7")) is None  # found by chance
    assert first_output_holds_answer(make_rollout("t1", tools=())) is None


def question(task_id: str, text: str, **item: Any) -> Task:
    return Task(task_id, ({"role": "user", "content": text},), item)


def test_questions_that_are_nearly_the_same_are_twins() -> None:
    text = "How much did the company spend on research and development in the year, all segments taken together"
    train = [question("t1", f"{text}?"), question("t2", "What is the capital of France?")]
    pairs = {
        "v1": (f"{text.upper()} !", True),
        "v2": (f"{text} please?", True),
        "v3": ("How much did the company earn?", False),
        "v4": ("what is the capital of France", True),
        "v5": ("What is the capital of Spain?", False),
        "v6": (f"{text} 2015?", False),  # another number asks for another thing
    }
    found = twins(train, [question(name, said) for name, (said, _) in pairs.items()])
    assert [pair[0] for pair in found.pairs] == [name for name, (_, is_twin) in pairs.items() if is_twin]
    assert found.n_validation == 6


def test_the_same_question_about_two_documents_is_two_questions() -> None:
    one, other = question("t1", "what is the revenue", path="a"), question("v1", "What is the revenue?", path="b")
    assert twins([one], [other]).pairs == ()
    assert twins([one], [question("v1", "What is the revenue?", path="a")]).pairs == (("v1", "t1"),)
