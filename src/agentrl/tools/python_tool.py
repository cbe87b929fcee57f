"""A typed Python function as a tool: what it says of itself is what the policy is told and held to.

    def divide(a: float, b: float) -> float:
        '''Divide two numbers.

        Args:
            a: the dividend.
            b: the divisor.
        '''
        if b == 0:
            raise ToolInputError("b must not be 0")
        return a / b

A parameter named `rollout_id` or `item` is filled by us, not by the policy: state is kept per rollout under the one,
the task's row is the other. A plain function runs in a thread of its own; an `async def` in the event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Annotated, Any, NotRequired, cast, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from agentrl.config import PythonToolConfig
from agentrl.config.functions import load_function, working_directory_importable
from agentrl.endpoint import advice
from agentrl.errors import ConfigError, ToolError, ToolInputError
from agentrl.tools.output import InvalidArguments, arguments_of, as_text, refusal, tool_object, tool_result
from agentrl.types import ToolCall, ToolResult

OURS = ("rollout_id", "item")
"""Parameters that the policy neither sees nor sets."""
SECTION = re.compile(r"^(Args|Returns|Raises|Yields):\n", re.MULTILINE)
PARAMETER_LINE = re.compile(r" {2,4}(\w+)(?: \([^)]*\))?: *(\S.*)")


class PythonTool:
    """A tool of `tools.python`.

    Args:
        function: found by name where it is not given.
        max_output_chars: a longer output is cut, with a marker at its end.

    Raises:
        ConfigError: no such function, or parameters whose types make no JSON schema.
    """

    def __init__(
        self,
        config: PythonToolConfig,
        *,
        function: Callable[..., Any] | None = None,
        max_output_chars: int = 8000,
    ) -> None:
        if function is None:
            with working_directory_importable():
                function = load_function("tools.python", config.function)
        self.name = config.function.partition(":")[2]
        self._where = f"tools.python {config.function}"
        self._function = function
        self._timeout_seconds = config.timeout_seconds
        self._slots = asyncio.Semaphore(config.max_concurrency)
        self._max_output_chars = max_output_chars
        self._filled = [name for name in OURS if name in inspect.signature(function).parameters]
        self._arguments = _arguments_type(function, self._where)
        text, _ = _parts(inspect.getdoc(function) or "")
        self.description = tool_object(self.name, text, _schema(self._arguments, self._where))

    def __repr__(self) -> str:
        return f"PythonTool({self.name!r})"

    async def aclose(self) -> None:
        """Nothing is open."""

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        """Answer one call of the policy.

        Raises:
            ToolError: the function raised anything but ToolInputError, or was not done in time.
        """
        try:
            arguments = self._checked(call)
        except InvalidArguments as error:
            return refusal(call, error, max_output_chars=self._max_output_chars)
        arguments |= {name: {"rollout_id": rollout_id, "item": item}[name] for name in self._filled}
        started, is_error = time.perf_counter(), False
        try:
            async with self._slots, asyncio.timeout(self._timeout_seconds) as deadline:
                output = as_text(await self._run(arguments))
        except ToolInputError as error:
            output, is_error = str(error), True
        except Exception as error:  # a tool is the user's program: it may raise anything
            found = f"raised {type(error).__name__}: {error}"
            if isinstance(error, TimeoutError) and deadline.expired():
                found = f"not done within {self._timeout_seconds:g} s{advice('timeout', None)}"
            raise ToolError(f"{self._where}: {found}", rollout_id=rollout_id) from error
        seconds = time.perf_counter() - started
        return tool_result(call, output, max_output_chars=self._max_output_chars, seconds=seconds, is_error=is_error)

    def _checked(self, call: ToolCall) -> dict[str, Any]:
        found = arguments_of(call)
        try:
            return dict(self._arguments.validate_python(found))
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in details]
            raise InvalidArguments("; ".join(problems)) from error

    async def _run(self, arguments: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**arguments)
        return await _in_thread(self._function, arguments)


async def _in_thread(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Run a function in a thread of its own: one that never ends holds up neither a pool nor the process's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def finish(output: Any, error: BaseException | None) -> None:
        if not done.done():  # nobody waits any more
            if error is None:
                done.set_result(output)
            else:
                done.set_exception(error)

    def work() -> None:
        output, error = None, None
        try:
            output = context.run(function, **arguments)
        except Exception as raised:
            error = raised
        except BaseException as raised:  # SystemExit in a thread would end nothing, and be answered never
            error = RuntimeError(f"{type(raised).__name__}: {raised}")
        if isinstance(error, StopIteration):  # no future takes it
            error = RuntimeError(f"StopIteration: {error}")
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, output, error)

    threading.Thread(target=work, daemon=True).start()
    return await done


def _arguments_type(function: Callable[..., Any], where: str) -> TypeAdapter[dict[str, Any]]:
    """The policy's arguments as a type. A mapping rather than a model: any parameter name is allowed in it."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations are expressions: they may raise anything
        raise ConfigError(f"{where}: its annotations cannot be read ({type(error).__name__}: {error})") from error
    _, parameter_texts = _parts(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"{where}: found the parameter {parameter}; allowed: ones that can be given by name")
        if name in OURS:
            continue
        if name not in hints:
            raise ConfigError(f"{where}: parameter {name!r} has no type; annotate it, for example `{name}: str`")
        text = parameter_texts.get(name)
        annotation = Annotated[hints[name], Field(description=text)] if text else hints[name]
        fields[name] = annotation if parameter.default is parameter.empty else NotRequired[annotation]
    arguments = cast(Any, TypedDict)("Arguments", fields)
    arguments.__pydantic_config__ = {"extra": "forbid"}
    try:
        return TypeAdapter(arguments)
    except PydanticUserError as error:
        raise ConfigError(f"{where}: its types make no JSON schema ({error.message})") from error


def _schema(arguments: TypeAdapter[dict[str, Any]], where: str) -> dict[str, Any]:
    try:
        schema = arguments.json_schema()
    except PydanticUserError as error:
        raise ConfigError(f"{where}: its types make no JSON schema ({error.message})") from error
    schema.pop("title", None)
    for each in schema.get("properties", {}).values():
        each.pop("title", None)
    return schema


def _parts(docstring: str) -> tuple[str, dict[str, str]]:
    """A docstring in Google's style: what it says of the function, and of each parameter."""
    head, *sections = SECTION.split(docstring)
    parameters: dict[str, str] = {}
    name = ""
    for line in dict(zip(sections[::2], sections[1::2], strict=True)).get("Args", "").split("\n"):
        if match := PARAMETER_LINE.match(line):
            name = match[1]
            parameters[name] = match[2]
        elif name and line.strip():
            parameters[name] += f" {line.strip()}"
    return head.strip(), parameters
