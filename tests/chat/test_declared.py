"""A model with a syntax of its own, read by the response_template that its tokenizer carries."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from agentrl.chat import ChatFormat, append_only_report
from agentrl.errors import BaselineError
from agentrl.types import ToolResult
from tests.chat.families import FAMILIES, HERMES, ids_of

OWN_SYNTAX = HERMES.replace(
    """'\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson""",
    "'<<' + call.function.name + ' ' + call.function.arguments | tojson",
).replace("'}\\n</tool_call>'", "'>>'")
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close_pattern": r"</think>\s*", "content": "text"},
        "tool_calls": {
            "open_pattern": r"<<(?P<name>\w+) ",
            "close_pattern": r">>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*|$", "content": "text"},
    },
}


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    tokenizer = FAMILIES["hermes"].tokenizer(OWN_SYNTAX)
    tokenizer.response_template = RESPONSE_TEMPLATE
    return ChatFormat(tokenizer)


def parse(chat: ChatFormat, *pieces: str) -> Any:
    return chat.parse(ids_of(chat.tokenizer, *pieces), call_id_prefix="p")


def test_without_a_response_template_the_syntax_is_unknown() -> None:
    with pytest.raises(BaselineError, match="or a tokenizer with a response_template"):
        ChatFormat(FAMILIES["hermes"].tokenizer(OWN_SYNTAX))


def test_calls_thoughts_and_answers_are_read(chat: ChatFormat) -> None:
    turn = parse(chat, "<think>", "hm", "</think>", '<<find {"key": 7}>><<look {}>>', "<|im_end|>")
    assert [(call.name, json.loads(call.arguments)) for call in turn.calls] == [("find", {"key": 7}), ("look", {})]
    assert (turn.reasoning, turn.reasoning_tokens, turn.text) == ("hm", 2, "")
    assert parse(chat, "yes", "<|im_end|>").text == "yes"


def test_what_transformers_gives_up_on_is_one_malformed_call(chat: ChatFormat) -> None:
    turn = parse(chat, '<<find {"key">>', "<|im_end|>")
    assert (turn.calls, turn.malformed) == ((), ('<<find {"key">>',))
    assert "no" in chat.decode(chat.observation_ids(turn, [ToolResult("", "", "no", 0.0)]))


def test_it_is_append_only(chat: ChatFormat) -> None:
    report = append_only_report(chat)
    assert report.is_fit
    assert report.syntax == "response_template"


def test_random_outputs_never_raise(chat: ChatFormat) -> None:
    rng = random.Random(1)
    pieces = ["<<find ", ">>", "{", "}", '"key": 7', "<think>", "</think>", "<|im_end|>", "yes", "<<", "\ufffd", "\n"]
    for _ in range(1000):
        turn = parse(chat, *(rng.choice(pieces) for _ in range(rng.randrange(12))))
        assert len(turn.written) == len(turn.calls) + len(turn.malformed)
