"""Whatever a server sends as a completion becomes a turn that can be kept, shown and sent back."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.endpoint.body import encode
from agentrl.rollout.api_reply import read_reply, unusable

TEXT = st.text(st.characters(codec=None), max_size=8)  # halves of surrogate pairs included
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**13), 10**13)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | TEXT
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
NAMES = st.sampled_from(["look", " look ", "", " ", "functions.look", "l\ud800ok", "x" * 70])
CALL = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "index": st.integers(),
        "function": JSON
        | st.fixed_dictionaries({}, optional={"name": JSON | NAMES, "arguments": JSON | st.just('{"a": 1}')}),
        "extra_content": JSON,
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": JSON,
        "content": JSON | st.just([{"type": "text", "text": "a</think>b"}]),
        "refusal": JSON,
        "reasoning_content": JSON,
        "tool_calls": JSON | st.lists(CALL | JSON, max_size=4),
    },
)
USAGE = JSON | st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details"]), JSON
)
CHOICE = st.fixed_dictionaries({"message": MESSAGE}, optional={"finish_reason": JSON | st.just("length")})
BODY = st.fixed_dictionaries({"choices": CHOICE.map(lambda choice: [choice])}, optional={"usage": USAGE, "model": JSON})


@settings(max_examples=300)
@given(BODY)
def test_any_completion_is_a_turn(body: dict[str, Any]) -> None:
    if unusable(body):
        return
    reply = read_reply(body, "p_0")
    parsed = reply.parsed
    kept = [parsed.text, parsed.raw, parsed.reasoning, *parsed.malformed, reply.model]
    kept += [text for call in parsed.calls for text in (call.id, call.name, call.arguments)]
    "".join(kept).encode()  # it can be written to a file
    encode({"messages": [reply.message]})  # and sent back
    assert all(isinstance(json.loads(call.arguments), dict) for call in parsed.calls)
    sent_back = reply.message.get("tool_calls", [])
    assert [call["id"] for call in sent_back] == list(reply.call_ids)
    assert len(set(reply.call_ids)) == len(reply.call_ids) == len(parsed.calls) + len(parsed.malformed)
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in sent_back)
    names = [call["function"]["name"] for call in sent_back]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
    assert min(reply.prompt_tokens, reply.output_tokens, reply.reasoning_tokens) >= 0
