"""Does a chat template leave what was said as it was said?

Training continues the ids of an episode: prompt, sampled turn, tool output, sampled turn. A server renders the whole
conversation anew for every turn. Where the template then writes an earlier turn otherwise than it was sampled, the
policy is served contexts that it was never trained in. Qwen3's template drops the empty thoughts of earlier turns,
and gpt-oss' all of them once there is an answer. Not re-rendering would hide that from training, not cure it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.chat.format import USER, ChatFormat, calling_message, tool_message
from agentrl.chat.templates import TEMPLATES
from agentrl.errors import BaselineError
from agentrl.types import Message, ToolResult

THOUGHTS = ("first a", "", "both agree")
CALLS = (("a",), ("b", "c"))
ANSWER = "42"
SHOWN_BEFORE, SHOWN_BEHIND = 6, 10
SHIPPED = {"hermes": "qwen3", "harmony": "gpt-oss"}


@dataclass(frozen=True)
class Difference:
    """Where the template's rendering parts from what was said."""

    where: str
    token: int
    """Index of the first id that differs."""
    said: str
    """The text around it, as the policy and the tools wrote it."""
    rendered: str
    """The text around it, as the template writes it afterwards."""

    def __str__(self) -> str:
        return f"{self.where}, token {self.token}: said {self.said!r}, rendered {self.rendered!r}"


@dataclass(frozen=True)
class AppendOnlyReport:
    """A dialogue of three turns (thought and call; calls without a thought; thought and answer), said and rendered."""

    syntax: str
    stops: tuple[str, ...]
    is_parallel: bool
    has_thoughts: bool
    """The template writes thoughts."""
    tokens: int
    """Length of the dialogue."""
    difference: Difference | None
    """Within the dialogue: another text. It makes the template unfit for training."""
    respelled: Difference | None
    """Within the dialogue: the same text, cut into other tokens. Harmless, as nothing is encoded twice."""
    follow_up: Difference | None
    """What changes once the user speaks again, which no episode here does."""
    unread: str = ""
    """What the template wrote and was not read back; empty where all was."""

    @property
    def is_fit(self) -> bool:
        return self.difference is None and not self.unread


def check_append_only(chat: ChatFormat) -> None:
    """Refuse a template that rewrites earlier turns.

    Raises:
        BaselineError: it does; the message names the place and the remedy.
    """
    report = append_only_report(chat)
    if report.unread:
        raise BaselineError(f"the chat template writes what is not read back: {report.unread}")
    if report.difference:
        raise BaselineError(f"the chat template rewrites earlier turns: {report.difference}; {remedy(report.syntax)}")


def remedy(syntax: str) -> str:
    """What to do about a template that rewrites earlier turns."""
    own = "a .jinja file of your own that writes every turn as it was said"
    if shipped := SHIPPED.get(syntax):
        template = f"`{shipped}`, a training template that ships with agentrl, or to {own}"
    else:
        template = f"{own}; training templates for other models ship with agentrl: {', '.join(TEMPLATES)}"
    return f"set workflow.chat_template to {template} (the other remedy, one training sample a turn, agentrl has not)"


def append_only_report(chat: ChatFormat) -> AppendOnlyReport:
    """Say the dialogue token by token, and let the template render it.

    Raises:
        BaselineError: the template cannot render it.
    """
    try:
        return _Dialogue(chat).report()
    except BaselineError:
        raise
    except Exception as error:  # a template is a program: it may raise anything
        raise BaselineError(f"the chat template cannot render a dialogue of three turns ({error})") from error


class _Rewritten(Exception):
    """An earlier turn changed: what comes after it cannot be compared."""


class _Dialogue:
    def __init__(self, chat: ChatFormat) -> None:
        self._chat = chat
        # a generation prompt that closes a thought asks for none
        self._thinks = chat.syntax.thought[1] not in chat.generation_prompt([USER])
        self._messages: list[Message] = [USER]
        self._said = chat.prompt_ids([USER])
        self._difference: Difference | None = None
        self._respelled: Difference | None = None
        self._unread = ""

    def report(self) -> AppendOnlyReport:
        chat, after = self._chat, None
        try:
            for number, keys in enumerate(CALLS, start=1):
                self._call(number, keys if chat.is_parallel else keys[:1])
            self._answer()
            follow_up = self._ids([*self._messages, USER], generate=False)
            _, after = self._compare("once the user speaks again", self._said, follow_up)
        except _Rewritten:
            pass
        return AppendOnlyReport(
            syntax=chat.syntax.name,
            stops=chat.stops,
            is_parallel=chat.is_parallel,
            has_thoughts=THOUGHTS[0] in chat.render(self._messages[:2], generate=False),
            tokens=len(self._said),
            difference=self._difference,
            respelled=self._respelled,
            follow_up=after,
            unread=self._unread,
        )

    def _ids(self, messages: Sequence[Message], *, generate: bool) -> list[int]:
        return self._chat.encode(self._chat.render(messages, generate=generate))

    def _call(self, number: int, keys: Sequence[str]) -> None:
        """One turn that makes calls, and the tools' answers."""
        chat, prefix = self._chat, f"doctor{number}"
        ids = [chat.syntax.call_id(prefix, index) for index in range(len(keys))]
        asked = [("find", call_id, {"key": key}) for call_id, key in zip(ids, keys, strict=True)]
        turn_ids = self._say(calling_message(*asked, **self._thought(number)), number)
        if turn_ids[-1] not in chat.stop_ids:  # the next message's opening mark ends the turn
            turn_ids.append(chat.stop_after_calls)
            self._said.append(chat.stop_after_calls)
        turn = chat.parse(turn_ids, call_id_prefix=prefix)
        read = [(call.name, json.loads(call.arguments)) for call in turn.calls]
        if read != [(name, arguments) for name, _, arguments in asked]:
            self._unread = self._unread or f"the calls of turn {number}, {turn.raw!r}"
            turn = chat.parse([turn_ids[-1]], call_id_prefix=prefix)
        results = [ToolResult(call_id, "find", f"found {key}", 0.0) for call_id, key in zip(ids, keys, strict=True)]
        self._said += chat.observation_ids(turn, results)
        self._messages += [tool_message(result.name, result.call_id, result.output) for result in results]
        self._note(f"in the prompt of turn {number + 1}", self._said, self._ids(self._messages, generate=True))

    def _answer(self) -> None:
        number = len(CALLS) + 1
        ids = self._say({"role": "assistant", "content": ANSWER, **self._thought(number)}, number)
        if (turn := self._chat.parse(ids, call_id_prefix="doctor")).text != ANSWER:
            self._unread = self._unread or f"the answer {ANSWER}, {turn.raw!r}"
        self._note("in the whole dialogue", self._said, self._ids(self._messages, generate=False))

    def _say(self, message: Message, number: int) -> list[int]:
        """The ids that the policy samples to write `message`, up to its stop token."""
        chat = self._chat
        prompt = chat.render(self._messages, generate=True)
        self._messages.append(message)
        rendered = chat.render(self._messages, generate=False)
        if not rendered.startswith(prompt):
            self._note(f"once turn {number} is written", chat.encode(prompt), chat.encode(rendered))
        ids = chat.encode(rendered.removeprefix(prompt), is_continued=True)
        end = next((index for index, token in enumerate(ids) if token in chat.stop_ids), len(ids))
        self._said += ids[: end + 1]
        return ids[: end + 1]

    def _note(self, where: str, said: list[int], rendered: list[int]) -> None:
        respelled, self._difference = self._compare(where, said, rendered)
        self._respelled = self._respelled or respelled
        if self._difference:
            raise _Rewritten

    def _compare(self, where: str, said: list[int], rendered: list[int]) -> tuple[Difference | None, Difference | None]:
        """A difference in tokens alone, and one in the text; `rendered` may go on."""
        if rendered[: len(said)] == said:
            return None, None
        pairs = zip(said, rendered, strict=False)
        at = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(said), len(rendered)))
        shown = slice(max(at - SHOWN_BEFORE, 0), at + SHOWN_BEHIND)
        difference = Difference(where, at, self._chat.decode(said[shown]), self._chat.decode(rendered[shown]))
        if self._chat.decode(rendered).startswith(self._chat.decode(said)):
            return difference, None
        return None, difference

    def _thought(self, number: int) -> dict[str, str]:
        """Under the names that templates give to thoughts; none where there is nothing to think."""
        thought = THOUGHTS[number - 1] if self._thinks else ""
        return {"reasoning_content": thought, "thinking": thought} if thought else {}
