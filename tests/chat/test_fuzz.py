"""Whatever a policy samples can be taken apart and answered."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from agentrl.chat import ParsedTurn
from agentrl.types import ToolResult
from tests.chat.families import FAMILIES, ids_of, make_chat

OUTPUTS = 100_000
FRAGMENTS = (
    *('{"name": "find", "arguments": {"key": "7"}}', '{"name": "find", "parameters": {}}', '{"name"', '"arguments": {'),
    *("{", "}", "[", "]", '"', ":", ",", "\\", "\\ud800", "\n", " ", "null", "NaN", "1e999", "9" * 30, "<", ">"),
    *("find", "call:find{key:", "call:", "to=functions.find", " to=", "analysis", "commentary", "final", "thought"),
    *("<function=find>", "<parameter=key>\n7\n</parameter>", "</function>", "<function=", "</parameter>", "[{", "}]"),
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<|call|>", "[TOOL_CALLS]", "abcdEFG12", "🦀", "é", "\x00"),
)
TYPES = ({"type": "string"}, {"type": "integer"}, {"type": ["array", "null"]}, {}, None)


def tools(rng: random.Random) -> Any:
    properties = {"key": rng.choice(TYPES)}
    return [{"type": "function", "function": {"name": "find", "parameters": {"properties": properties}}}]


def check(chat: Any, turn: ParsedTurn, ids: list[int]) -> None:
    for call in turn.calls:
        assert isinstance(json.loads(call.arguments), dict)
        (call.name + call.arguments).encode()
    assert len(turn.written) == len(turn.calls) + len(turn.malformed)
    assert len({call.id for call in turn.calls}) == len(turn.calls)
    assert 0 <= turn.reasoning_tokens <= len(ids)
    assert bool(turn.reasoning_tokens) or not turn.reasoning
    assert turn.raw == chat.text(ids)
    assert turn.stop_id in (None, ids[-1] if ids else None)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_random_outputs_never_raise(name: str) -> None:
    chat, family, rng = make_chat(name), FAMILIES[name], random.Random(name)
    control = [*family.special, *family.tags]
    pieces = [ids_of(chat.tokenizer, piece) for piece in (*control, *FRAGMENTS)]
    n_bytes = len(chat.tokenizer) - len(control)
    known = set(chat.tokenizer.added_tokens_decoder)
    found = answered = 0
    for _ in range(OUTPUTS // len(FAMILIES) + 1):
        ids: list[int] = []
        for _ in range(rng.randrange(18)):
            drawn = rng.random()
            ids += rng.choice(pieces) if drawn < 0.9 else [rng.randrange(n_bytes)]
        if rng.random() < 0.2:
            ids = ids[: rng.randrange(len(ids) + 1)]
        turn = chat.parse(ids, call_id_prefix="f", tools=tools(rng) if rng.random() < 0.5 else None)
        check(chat, turn, ids)
        found += len(turn.written)
        if turn.written and rng.random() < 0.05:
            results = [ToolResult(call.id, call.name, "-answer-", 0.0) for call in turn.calls]
            results += [ToolResult("", "", "-answer-", 0.0) for _ in turn.malformed]
            observed = chat.observation_ids(turn, results)
            assert chat.decode(observed).count("-answer-") == len(results)
            assert known & set(observed)
            answered += 1
    assert found > 200
    assert answered > 20
