"""What a turn says before its calls can be cut out of its tokens: what is left is the calls, as they were sampled."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.chat import ChatFormat
from agentrl.chat.format import USER, calling_message
from agentrl.chat.thoughts import without_thought
from tests.chat.families import FAMILIES, make_chat

THOUGHT = {"reasoning_content": "Hm, let me think.", "thinking": "Hm, let me think."}
WORDS = {"content": "I will look."}


def turn(chat: ChatFormat, *calls: dict[str, Any], **said: str) -> list[int]:
    """The ids of a turn as the template writes it, up to its stop token."""
    asked = [("find", chat.syntax.call_id("p", n), arguments) for n, arguments in enumerate(calls)]
    message = calling_message(*asked, **said) if calls else {"role": "assistant", "content": "", **said}
    prompt = chat.render([USER], generate=True)
    ids = chat.encode(chat.render([USER, message], generate=False).removeprefix(prompt), is_continued=True)
    end = next((n for n, token in enumerate(ids) if token in chat.stop_ids), len(ids))
    return ids[: end + 1]


@pytest.mark.parametrize("said", [THOUGHT, WORDS, THOUGHT | WORDS], ids=["thought", "words", "both"])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_left_makes_the_same_calls_and_says_nothing(name: str, said: dict[str, str]) -> None:
    chat = make_chat(name)
    ids = turn(chat, {"key": "a b"}, **said)
    before, kept = chat.parse(ids, call_id_prefix="p"), without_thought(chat, ids)
    if not (before.text or before.reasoning) or (name.endswith("gemma") and "content" in said):  # it speaks behind them
        assert kept is None
        return
    assert kept is not None
    after = chat.parse(kept, call_id_prefix="p")
    assert (after.text, after.reasoning, after.malformed, after.stop_id) == ("", "", (), before.stop_id)
    assert after.calls == before.calls
    if name != "glm":  # whose template writes the marks of an empty thought
        assert list(kept) == turn(chat, {"key": "a b"})


def test_all_calls_of_a_turn_stay_and_so_does_one_that_cannot_be_read() -> None:
    chat = make_chat("hermes")
    broken = '<tool_call>{"name": </tool_call>'
    calls = chat.decode(turn(chat, {"key": "a"}, {"key": "b"})).removesuffix("<|im_end|>") + broken + "<|im_end|>"
    kept = without_thought(chat, chat.encode("<think>so</think>Both." + calls, is_continued=True))
    assert kept is not None
    assert chat.decode(kept) == calls


@pytest.mark.parametrize(
    "text",
    [
        "It is 42.<|im_end|>",
        '<tool_call>{"name": "find", "arguments": {}}</tool_call><|im_end|>',
        '<tool_call>{"name": "find", "arguments": {}}</tool_call>I looked.<|im_end|>',
        "<|im_end|>",
    ],
    ids=["answer", "silent", "behind", "empty"],
)
def test_a_turn_without_calls_or_without_words_before_them_has_nothing_to_cut(text: str) -> None:
    chat = make_chat("hermes")
    assert without_thought(chat, chat.encode(text, is_continued=True)) is None


def test_a_thought_that_is_never_closed_is_not_cut() -> None:
    chat = make_chat("qwen-xml")
    assert without_thought(chat, chat.encode("Hm, let me<|im_end|>", is_continued=True)) is None
