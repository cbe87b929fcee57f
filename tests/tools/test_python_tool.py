"""A Python function as a tool: its signature is the schema, and whose fault a failure is."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agentrl.config import PythonToolConfig, ToolsConfig
from agentrl.errors import ConfigError, ToolError, ToolInputError
from agentrl.tools import PythonTool, Toolbox
from agentrl.types import ToolCall, ToolResult


def divide(a: float, b: float, places: int = 2) -> float:
    """Divide two numbers.

    Rounded half to even.

    Args:
        a: the dividend.
        b (float): the divisor,
            never 0.

    Returns:
        the quotient.
    """
    if b == 0:
        raise ToolInputError("b must not be 0")
    return round(a / b, places)


class Query(BaseModel):
    company: str
    year: int = 2016


def tool(function: Any, *, max_output_chars: int = 8000, **fields: Any) -> PythonTool:
    config = PythonToolConfig(function=f"tests:{function.__name__}", **fields)
    return PythonTool(config, function=function, max_output_chars=max_output_chars)


def call(function: Any, arguments: str, *, rollout_id: str = "trace_1", **options: Any) -> ToolResult:
    made = ToolCall("call_1", function.__name__, arguments)
    return asyncio.run(tool(function, **options).call(made, rollout_id=rollout_id, item={"company": "ETR"}))


def test_the_signature_and_the_docstring_are_the_description() -> None:
    described = tool(divide).description["function"]
    assert described["name"] == "divide"
    assert described["description"] == "Divide two numbers.\n\nRounded half to even."
    assert described["parameters"] == {
        "type": "object",
        "properties": {
            "a": {"type": "number", "description": "the dividend."},
            "b": {"type": "number", "description": "the divisor, never 0."},
            "places": {"type": "integer"},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    }


def test_a_call_is_answered_with_what_the_function_returns() -> None:
    result = call(divide, '{"a": 1, "b": 3}')
    assert (result.output, result.is_error, result.call_id, result.name) == ("0.33", False, "call_1", "divide")
    assert call(divide, '{"a": 1, "b": 3, "places": 4}').output == "0.3333"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("{", "Invalid arguments: not valid JSON ("),
        ("[1]", "Invalid arguments: they have to be a JSON object."),
        ('{"a": 1}', "Invalid arguments: b: Field required."),
        ('{"a": 1, "b": "many"}', "Invalid arguments: b: Input should be a valid number"),
        ('{"a": 1, "b": 2, "c": 3}', "Invalid arguments: c: Extra inputs are not permitted."),
    ],
)
def test_wrong_arguments_are_the_policys_to_read(arguments: str, shown: str) -> None:
    result = call(divide, arguments)
    assert result.is_error
    assert result.output.startswith(shown)


def test_a_tool_input_error_is_the_policys_to_read() -> None:
    result = call(divide, '{"a": 1, "b": 0}')
    assert (result.output, result.is_error) == ("b must not be 0", True)


def test_any_other_exception_is_a_tool_error() -> None:
    def broken(x: int) -> str:
        raise KeyError(x)

    def leaves() -> str:
        raise SystemExit(3)

    with pytest.raises(ToolError, match=r"tools.python tests:broken: raised KeyError: 1") as caught:
        call(broken, '{"x": 1}')
    assert caught.value.rollout_id == "trace_1"
    with pytest.raises(ToolError, match="SystemExit: 3"):
        call(leaves, "{}")


def test_a_function_that_hangs_is_a_tool_error_and_does_not_hold_up_the_others() -> None:
    release = threading.Event()

    def hang() -> str:
        release.wait(30)
        return "late"

    async def run() -> None:
        made = tool(hang, timeout_seconds=0.05, max_concurrency=2)
        for _ in range(5):  # more than there are slots
            with pytest.raises(ToolError, match=r"not done within 0.05 s"):
                await made.call(ToolCall("c", "hang", "{}"), rollout_id="t", item={})
        release.set()
        await asyncio.sleep(0.05)  # late answers find nobody and raise nothing

    asyncio.run(asyncio.wait_for(run(), 20))


def test_functions_run_side_by_side_up_to_the_limit() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1

    async def run() -> None:
        made = tool(work, max_concurrency=3)
        await asyncio.gather(*(made.call(ToolCall("c", "work", "{}"), rollout_id="t", item={}) for _ in range(9)))

    asyncio.run(run())
    assert 1 < most[0] <= 3


def test_an_async_function_is_awaited_and_has_the_same_limits() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    async def hang() -> None:
        await asyncio.sleep(30)

    assert call(add, '{"a": 2, "b": 3}').output == "5"
    with pytest.raises(ToolError, match="not done within"):
        call(hang, "{}", timeout_seconds=0.05)


def test_a_cancelled_call_ends_at_once() -> None:
    def hang() -> None:
        time.sleep(1)

    async def run() -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tool(hang).call(ToolCall("c", "hang", "{}"), rollout_id="t", item={}), 0.02)
        return time.monotonic() - started

    assert asyncio.run(run()) < 0.9


def test_the_rollout_and_the_row_are_ours_to_give() -> None:
    notes: dict[str, list[str]] = {}

    def note(text: str, rollout_id: str, item: dict[str, Any]) -> list[str]:
        notes.setdefault(rollout_id, []).append(text)
        return [*notes[rollout_id], item["company"]]

    assert call(note, '{"text": "a"}', rollout_id="trace_a").output == '["a","ETR"]'
    assert call(note, '{"text": "b"}', rollout_id="trace_b").output == '["b","ETR"]'
    assert list(tool(note).description["function"]["parameters"]["properties"]) == ["text"]
    assert call(note, '{"text": "b", "rollout_id": "trace_a"}').is_error


def test_typed_arguments_arrive_as_their_types() -> None:
    def find(query: Query, model_config: Literal["fast", "exact"]) -> str:
        return f"{type(query).__name__} {query.company} {query.year} {model_config}"

    shown = call(find, '{"query": {"company": "ETR"}, "model_config": "exact"}')
    assert shown.output == "Query ETR 2016 exact"
    assert "query.company: Field required" in call(find, '{"query": {}, "model_config": "exact"}').output


@pytest.mark.parametrize(
    ("value", "shown"), [("text", "text"), (None, "null"), ({"a": [1, "é"]}, '{"a":[1,"é"]}'), ("\ud800", "?")]
)
def test_an_output_is_shown_as_text(value: Any, shown: str) -> None:
    def give() -> Any:
        return value

    assert call(give, "{}").output == shown


def test_a_long_output_is_cut_with_a_marker() -> None:
    def give() -> str:
        return "x" * 500

    result = call(give, "{}", max_output_chars=100)
    assert (len(result.output), result.is_cut) == (100, True)
    assert result.output.endswith("x\n[output cut: it has 500 characters]")
    assert not call(give, "{}").is_cut


def test_functions_are_found_by_name_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tools_module.py").write_text("def hello(name: str) -> str:\n    return 'hello ' + name\n")
    monkeypatch.chdir(tmp_path)
    toolbox = Toolbox.from_config(ToolsConfig.model_validate({"python": ["my_tools_module:hello"]}))
    made = toolbox.run([ToolCall("c", "hello", '{"name": "you"}')], rollout_id="t", item={})
    assert [result.output for result in asyncio.run(made)] == ["hello you"]
    assert [each["function"]["name"] for each in toolbox.descriptions] == ["hello"]
    for wrong, found in {"my_tools_module:helo": "did you mean 'hello'", "no_such_module_:f": "cannot import"}.items():
        with pytest.raises(ConfigError, match=found):
            Toolbox.from_config(ToolsConfig.model_validate({"python": [wrong]}))


def test_a_function_that_cannot_be_described_is_refused() -> None:
    def untyped(a) -> None:  # type: ignore[no-untyped-def]
        """?"""

    def gathers(*words: str) -> None:
        """?"""

    def lock(it: threading.Event) -> None:
        """?"""

    for function, found in {untyped: "'a' has no type", gathers: "given by name", lock: "no JSON schema"}.items():
        with pytest.raises(ConfigError, match=found):
            tool(function)
