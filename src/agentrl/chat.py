"""Messages to token ids and back, for one tokenizer: the only place that knows how a model writes a tool call.

Token-in, token-out: a prompt is encoded once, sampled ids are kept as sampled, and what the environment says is
appended to them. Nothing that was decoded is ever encoded again, so what is trained is what was sampled
(docs/algorithm.md). The tool-call syntax is Hermes': `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrl.errors import BaselineError
from agentrl.types import Message, ToolCall, ToolResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
BUDGET_NOTICE = "You may make at most {max_tool_calls} tool calls."
BUDGET_SPENT = "Tool budget exhausted. Give your final answer now."
MALFORMED = "Not a valid tool call."


@dataclass(frozen=True)
class ParsedTurn:
    """A generated turn, taken apart."""

    text: str
    """The turn without its thoughts and tool calls: the answer, where there are no calls."""
    calls: tuple[ToolCall, ...]
    malformed: tuple[str, ...]
    """Bodies of tool calls that are no JSON object with a name and arguments."""
    raw: str = ""
    """The whole turn as decoded, stop token removed."""
    reasoning: str = ""
    reasoning_tokens: int = 0


def announce_budget(messages: Sequence[Message], max_tool_calls: int) -> list[Message]:
    """The conversation with the tool budget as the last line of its system message (added where there is none)."""
    notice = BUDGET_NOTICE.format(max_tool_calls=max_tool_calls)
    first = messages[0]
    if first["role"] in ("system", "developer"):
        return [{**first, "content": f"{first['content']}\n{notice}"}, *messages[1:]]
    return [{"role": "system", "content": notice}, *messages]


def parse_turn(text: str, *, call_id_prefix: str) -> ParsedTurn:
    """Take a turn's text apart. Never raises: what cannot be read is listed as malformed.

    Args:
        text: as decoded, stop token removed.
        call_id_prefix: makes the ids of the calls unique and repeatable: `call_<prefix>_<i>`.
    """
    calls, malformed = [], []
    for i, match in enumerate(CALL.finditer(text)):
        try:
            name, arguments = _name_and_arguments(match.group(1))
            calls.append(ToolCall(f"call_{call_id_prefix}_{i}", name, arguments))
        except (ValueError, KeyError, TypeError, RecursionError):
            malformed.append(match.group(1))
    return ParsedTurn(CALL.sub("", text).strip(), tuple(calls), tuple(malformed))


def _name_and_arguments(body: str) -> tuple[str, str]:
    call = json.loads(body)
    name, arguments = call["name"], call["arguments"]
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise TypeError("a call is a name and an object of arguments")
    written = json.dumps(arguments, ensure_ascii=False)
    (name + written).encode()  # half a surrogate pair is no text: it could neither be sent nor shown
    return name.strip(), written


def for_template(messages: Sequence[Message]) -> list[Message]:
    """Messages as chat templates read them: arguments of tool calls as objects, where OpenAI's form has JSON text."""
    return [
        {**message, "tool_calls": [_with_object(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    if not isinstance(function["arguments"], str):
        return call
    return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}


class ChatFormat:
    """How one tokenizer writes a conversation.

    Raises:
        BaselineError: the tokenizer has no chat template, no end-of-turn token, or a template without tool calls
            or tool outputs.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer
        where = f"tokenizer {getattr(tokenizer, 'name_or_path', '') or '(in memory)'}"
        if not getattr(tokenizer, "chat_template", None):
            raise BaselineError(f"{where}: it has no chat template; save one with the baseline (chat_template.jinja)")
        if tokenizer.eos_token_id is None:
            raise BaselineError(f"{where}: it has no eos token, so a turn would never end; set eos_token")
        self.stop_id: int = int(tokenizer.eos_token_id)
        self.stop_ids: tuple[int, ...] = (self.stop_id,)
        self._stop_text: str = str(tokenizer.eos_token)
        self._check_tool_calls(where)

    def _render(
        self, messages: Sequence[Message], *, generate: bool, tools: Sequence[dict[str, Any]] | None = None
    ) -> str:
        rendered = self.tokenizer.apply_chat_template(
            for_template(messages), tools=tools, tokenize=False, add_generation_prompt=generate
        )
        return str(rendered)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _check_tool_calls(self, where: str) -> None:
        """Write a call and a tool's output, and see whether they are there to be read."""
        function = {"name": "probe", "arguments": {"argument": "sentinel"}}
        call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
        try:
            rendered = self._render([{"role": "user", "content": "x"}, call], generate=False)
            answered = self._observation(["sentinel-output"])
        except BaselineError as error:
            raise BaselineError(f"{where}: {error}") from error
        except Exception as error:  # a template is a program: it may raise anything
            raise BaselineError(f"{where}: its chat template cannot render a tool call ({error})") from error
        for what, text in (("chat template", rendered), ("vocabulary", self.text(self._encode(rendered)))):
            parsed = parse_turn(text, call_id_prefix="check").calls
            if not parsed or json.loads(parsed[0].arguments) != function["arguments"]:
                raise BaselineError(
                    f"{where}: its {what} does not write tool calls as "
                    '<tool_call>{"name": ..., "arguments": {...}}</tool_call>, which agentrl reads; '
                    "use a tokenizer with this (Hermes, Qwen) syntax"
                )
        if "sentinel-output" not in answered:
            raise BaselineError(f"{where}: its chat template drops messages of the role `tool`")

    def prompt_ids(self, messages: Sequence[Message], *, tools: Sequence[dict[str, Any]] | None = None) -> list[int]:
        """The conversation up to the point where the policy speaks.

        Args:
            tools: chat-completions tool objects, for templates that describe tools to the model.
        """
        return self._encode(self._render(messages, generate=True, tools=tools))

    def parse(self, token_ids: Sequence[int], *, call_id_prefix: str) -> ParsedTurn:
        """Take a sampled turn apart. Never raises: what cannot be read is listed as malformed.

        Args:
            token_ids: as sampled, stop token included where there is one.
            call_id_prefix: makes the ids of the calls unique and repeatable: `call_<prefix>_<i>`.
        """
        text = self.text(token_ids)
        return replace(parse_turn(text, call_id_prefix=call_id_prefix), raw=text)

    def observation_ids(self, turn: ParsedTurn, results: Sequence[ToolResult]) -> list[int]:
        """What follows a sampled turn: tool outputs and the next generation prompt.

        Rendered behind a stand-in turn and cut after that turn's stop token, which the policy has sampled itself.

        Args:
            turn: what the results answer.
            results: one for each call of the turn, in their order, then one for each malformed call.
        """
        del turn
        return self._encode(self._observation([result.output for result in results]))

    def _observation(self, outputs: Sequence[str]) -> str:
        stand_in: Message = {"role": "assistant", "content": "STANDIN"}
        replies: list[Message] = [{"role": "tool", "content": output} for output in outputs]
        rendered = self._render([{"role": "user", "content": "x"}, stand_in, *replies], generate=True)
        _, _, tail = rendered.partition("STANDIN")
        _, stop, suffix = tail.partition(self._stop_text)
        if not stop:
            raise BaselineError(f"the chat template does not end an assistant turn with {self._stop_text!r}")
        return suffix

    def text(self, token_ids: Sequence[int]) -> str:
        """A sampled turn as text, without its stop token."""
        ids = list(token_ids)
        if ids and ids[-1] == self.stop_id:
            ids.pop()
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))
