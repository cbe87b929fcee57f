"""How one tokenizer writes a conversation: prompts, turns taken apart, and what follows a turn."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentrl.chat.declared import Declared
from agentrl.chat.encoding import Encoding
from agentrl.chat.syntax import Syntax, Tools
from agentrl.chat.syntaxes import HERMES, SYNTAXES, supported
from agentrl.chat.turn import ParsedTurn, Reading, WrittenCall
from agentrl.errors import BaselineError
from agentrl.types import Message, ToolCall, ToolResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

USER: Message = {"role": "user", "content": "x"}
PROBE_ID = "probe0001"  # nine letters and digits: Mistral's templates take no other
TRUSTED = ("system", "developer", "assistant")
STAND_IN = "standin"
UNKNOWN = "unknown"


def parse_turn(text: str, *, call_id_prefix: str, syntax: Syntax = HERMES) -> ParsedTurn:
    """Take a turn's text apart. Never raises: what cannot be read is listed as malformed.

    Args:
        text: as decoded, stop token removed.
        call_id_prefix: makes the ids of the calls unique and repeatable: `call_<prefix>_<i>`.
    """
    return _parsed(syntax.read(text), syntax, call_id_prefix)


def _parsed(reading: Reading, syntax: Syntax, prefix: str) -> ParsedTurn:
    calls, malformed = [], []
    for index, call in enumerate(reading.calls):
        if call.arguments is None:
            malformed.append(call)
        else:
            calls.append((ToolCall(syntax.call_id(prefix, index), call.name, call.arguments), call))
    return ParsedTurn(
        text=reading.text,
        calls=tuple(call for call, _ in calls),
        malformed=tuple(call.body for call in malformed),
        reasoning=reading.reasoning,
        written=(*(written for _, written in calls), *malformed),
    )


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


def calling_message(*calls: tuple[str, str, dict[str, Any]], **fields: str) -> Message:
    """An assistant message that makes calls, each given as name, id and arguments."""
    written = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, call_id, arguments in calls
    ]
    return {"role": "assistant", "content": "", "tool_calls": written, **fields}


def tool_message(name: str, call_id: str, output: str) -> Message:
    """A tool's output, with all that some template asks for."""
    return {"role": "tool", "name": name, "tool_call_id": call_id, "content": output}


class ChatFormat:
    """How one tokenizer writes a conversation.

    Attributes:
        syntax: how its model writes tool calls.
        stop_ids: tokens that end a turn, the tokenizer's eos first; `stop_id` is that one.
        is_parallel: the template writes several calls in one turn.

    Raises:
        BaselineError: the tokenizer has no chat template, no end-of-turn token, or a template without tool calls
            or tool outputs; or it writes calls in a syntax that is not known here.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer
        where = f"tokenizer {getattr(tokenizer, 'name_or_path', '') or '(in memory)'}"
        if not getattr(tokenizer, "chat_template", None):
            raise BaselineError(f"{where}: it has no chat template; save one with the baseline (chat_template.jinja)")
        if tokenizer.eos_token_id is None:
            raise BaselineError(f"{where}: it has no eos token, so a turn would never end; set eos_token")
        self.stop_id: int = int(tokenizer.eos_token_id)
        try:
            self._encoding = Encoding(tokenizer)
            self.syntax = self._find_syntax()
            self._encoding = Encoding(tokenizer, self.syntax.marks)
            self._stops = self._stop_tokens()
            self.stop_ids: tuple[int, ...] = tuple(self._stops.values())
            self.is_parallel = self._writes_parallel_calls()
            self._check_observation()
        except BaselineError as error:
            raise BaselineError(f"{where}: {error}") from error
        except Exception as error:  # a template is a program: it may raise anything
            raise BaselineError(f"{where}: its chat template cannot render a tool call ({error})") from error
        self._is_thinking = self.syntax.opens_thought(self.generation_prompt([USER]))

    # What the tokenizer can do

    def _find_syntax(self) -> Syntax:
        """Let the template write a call, and see which syntax reads it back."""
        arguments = {"argument": "sentinel"}
        prompt = self.render([USER], generate=True)
        rendered = self.render([USER, calling_message(("probe", PROBE_ID, arguments))], generate=False)
        turn = rendered[len(_shared(prompt, rendered)) :]
        if "probe" not in turn or "sentinel" not in turn:
            raise BaselineError(
                "its chat template does not write tool calls: it leaves out `tool_calls`. Save one with the baseline "
                f"(chat_template.jinja) that writes them in a syntax which agentrl reads ({supported()})"
            )
        candidates = list(SYNTAXES)
        if getattr(self.tokenizer, "response_template", None) is not None:
            candidates.append(Declared(self.tokenizer, prompt))
        for syntax in candidates:
            stops = (str(self.tokenizer.eos_token), *syntax.stops)
            if _reads(syntax, turn, stops, arguments):
                decoded = self.decode(self._encoding.ids(turn))
                if not _reads(syntax, decoded, stops, arguments):
                    raise BaselineError(
                        f"its vocabulary does not write tool calls as {syntax.example}, as its template does: "
                        "the text is another one when it is encoded and decoded"
                    )
                return syntax
        raise BaselineError(
            f"its chat template does not write tool calls in a syntax which agentrl reads ({supported()}); "
            "use such a template, or a tokenizer with a response_template"
        )

    def _stop_tokens(self) -> dict[str, int]:
        """Text and id of the tokens that end a turn, eos first."""
        known = {str(token.content): int(i) for i, token in self.tokenizer.added_tokens_decoder.items()}
        found = {str(self.tokenizer.eos_token): self.stop_id}
        return found | {stop: known[stop] for stop in self.syntax.stops if stop in known}

    def _writes_parallel_calls(self) -> bool:
        names = ("firstprobe", "secondprobe")
        ids = ("probe0001", "probe0002")
        calls = calling_message(*((name, i, {"argument": "x"}) for name, i in zip(names, ids, strict=True)))
        try:
            rendered = self.render([USER, calls], generate=False)
        except Exception:  # Llama's refuses; a template is a program: it may raise anything
            return False
        return all(name in rendered for name in names)

    def _check_observation(self) -> None:
        """Answer a call, and see whether the output is there and stands behind the end of the turn."""
        rendered, _ = self._answered([("probe", PROBE_ID, "sentinel-output")])
        if "sentinel-output" not in rendered:
            raise BaselineError("its chat template drops messages of the role `tool`")
        if "sentinel-output" not in self._behind_turn([("probe", PROBE_ID, "sentinel-output")])[1]:
            raise self._without_end()

    def _without_end(self) -> BaselineError:
        stops = " or ".join(map(repr, self._stops))
        return BaselineError(f"its chat template does not end an assistant turn with {stops}")

    # Text

    def render(self, messages: Sequence[Message], *, generate: bool, tools: Tools = None) -> str:
        """The template's own text of a conversation, up to where the policy speaks if `generate`."""
        rendered = self.tokenizer.apply_chat_template(
            for_template(messages), tools=tools, tokenize=False, add_generation_prompt=generate
        )
        return str(rendered)

    def generation_prompt(self, messages: Sequence[Message]) -> str:
        """What the template adds where the policy is to speak."""
        return self.render(messages, generate=True).removeprefix(self.render(messages, generate=False))

    def _answered(self, answers: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
        """A conversation in which a stand-in turn makes calls (name, id) and gets outputs, and what follows the turn's
        last argument there."""
        stand_in = STAND_IN
        while any(stand_in in part for answer in answers for part in answer):
            stand_in += "-"
        calls = calling_message(*((name, call_id, {"argument": stand_in}) for name, call_id, _ in answers))
        rendered = self.render([USER, calls, *(tool_message(*answer) for answer in answers)], generate=True)
        return rendered, rendered.rpartition(stand_in)[2]

    def _behind_turn(self, answers: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
        """The token that ends a turn which makes these calls, and all that the template writes behind it."""
        _, tail = self._answered(answers)
        if not (found := [(tail.find(stop), stop) for stop in self._stops if stop in tail]):
            raise self._without_end()
        at, stop = min(found)
        return stop, tail[at + len(stop) :]

    # Ids

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop tokens as text, in the order of `stop_ids`."""
        return tuple(self._stops)

    @property
    def stop_after_calls(self) -> int:
        """The token with which the template ends a turn that makes calls."""
        return self._stops[self._behind_turn([("probe", PROBE_ID, "x")])[0]]

    def encode(self, rendered: str, *, is_continued: bool = False) -> list[int]:
        """Ids of text that the template wrote; `is_continued` where it does not stand at the beginning."""
        return self._encoding.ids(rendered, behind=self.stops[0] if is_continued else "")

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def prompt_ids(self, messages: Sequence[Message], *, tools: Tools = None) -> list[int]:
        """The conversation up to the point where the policy speaks.

        What users and tools say in it, and what the tools are described as, is encoded as text, also where it
        spells control tokens. What system, developer and assistant say is the task's own and stays as it is.

        Args:
            tools: chat-completions tool objects, for templates that describe tools to the model.
        """
        as_text = self._encoding.all_as_text
        spoken = [m if m["role"] in TRUSTED else {**m, "content": as_text(m.get("content"))} for m in messages]
        return self._encoding.ids(self.render(spoken, generate=True, tools=as_text(tools)))

    def parse(self, token_ids: Sequence[int], *, call_id_prefix: str, tools: Tools = None) -> ParsedTurn:
        """Take a sampled turn apart. Never raises: what cannot be read is listed as malformed.

        Args:
            token_ids: as sampled, stop token included where there is one.
            call_id_prefix: makes the ids of the calls unique and repeatable: `call_<prefix>_<i>`.
            tools: the task's tool objects; syntaxes that write values without quotes take their types from them.
        """
        ids = list(token_ids)
        stop_id = ids[-1] if ids and ids[-1] in self.stop_ids else None
        text = self.text(ids)
        reading = self.syntax.read(text, is_thinking=self._is_thinking, tools=tools)
        return replace(
            _parsed(reading, self.syntax, call_id_prefix),
            raw=text,
            reasoning_tokens=sum(
                self._n_tokens(ids, end) - self._n_tokens(ids, start) for start, end in reading.thoughts
            ),
            stop_id=stop_id,
        )

    def _n_tokens(self, ids: list[int], length: int) -> int:
        """How many of the sampled tokens it takes to write the first `length` characters."""

        def written(n: int) -> int:
            # half a character decodes to a replacement that the next token takes back
            return len(self.decode(ids[:n]).rstrip("\ufffd"))

        return bisect_left(range(len(ids)), length, key=written) if length else 0

    def observation_ids(self, turn: ParsedTurn, results: Sequence[ToolResult]) -> list[int]:
        """What follows a sampled turn: tool outputs and the next generation prompt.

        Rendered behind a stand-in turn that makes the same calls, and cut after that turn's stop token, which the
        policy has sampled itself. Where it ended its turn with another stop token, that one stays, and the
        template's is put behind it only if it opens the tool's message too; where it sampled none, the template's
        is put in. Outputs are encoded as text, also where they spell control tokens.

        Args:
            turn: what the results answer.
            results: one for each call of the turn, in their order, then one for each malformed call.
        """
        answers = [self._answer(turn, index, result) for index, result in enumerate(results)]
        if self.is_parallel:
            stop, text = self._behind_turn(answers)
        else:  # one message a call, each answered by itself
            parts = [self._behind_turn([answer]) for answer in answers]
            stop, prompt = parts[0][0], self.generation_prompt(self._one_answer(answers[0]))
            text = "".join(part.removesuffix(prompt) for _, part in parts[:-1]) + parts[-1][1]
        ids = self._encoding.ids(text, behind=stop)
        stop_id = self._stops[stop]
        is_missing = turn.stop_id is None or (turn.stop_id != stop_id and stop in self.syntax.opening_stops)
        return [stop_id, *ids] if is_missing else ids

    def _answer(self, turn: ParsedTurn, index: int, result: ToolResult) -> tuple[str, str, str]:
        """Name, id and output under which the template answers a call."""
        written = turn.written[index] if index < len(turn.written) else WrittenCall("")
        name = self._encoding.as_text(written.name or result.name or UNKNOWN)
        call_id = written.id or result.call_id or self.syntax.call_id("malformed", index)
        return name, call_id, self._encoding.as_text(result.output)

    def _one_answer(self, answer: tuple[str, str, str]) -> list[Message]:
        name, call_id, _ = answer
        return [USER, calling_message((name, call_id, {"argument": "x"})), tool_message(*answer)]

    def text(self, token_ids: Sequence[int]) -> str:
        """A sampled turn as text, without its stop token."""
        ids = list(token_ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        return self.decode(ids)


def _shared(prompt: str, rendered: str) -> str:
    """The beginning that both have, tags whole: a prompt may open a thought that the rendered turn does not have."""
    shared = os.path.commonprefix([prompt, rendered])  # noqa: RUF071  (by character is what is meant)
    return shared if shared.rfind(">") >= shared.rfind("<") else shared[: shared.rfind("<")]


def _reads(syntax: Syntax, turn: str, stops: Sequence[str], arguments: dict[str, Any]) -> bool:
    """Whether a syntax finds the probe's call, and no other, in a turn that the template wrote."""
    end = min((turn.index(stop) for stop in stops if stop in turn), default=len(turn))
    reading = syntax.read(turn[:end])
    if len(reading.calls) != 1 or (call := reading.calls[0]).arguments is None:
        return False
    return call.name == "probe" and json.loads(call.arguments) == arguments
