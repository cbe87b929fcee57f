from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.chat import ChatFormat, announce_budget, for_template, parse_turn
from agentrl.errors import BaselineError
from agentrl.types import ToolResult
from tests.engine_fixtures import CALL, END, TEMPLATE, make_tokenizer

NO_TOOL_CALLS = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
NO_TOOL_OUTPUTS = TEMPLATE.replace("in messages -%}", "in messages if message.role != 'tool' -%}")
NO_END = TEMPLATE.replace("<|im_end|>", "")
OTHER_SYNTAX = TEMPLATE.replace("<tool_call>", "<call>").replace("</tool_call>", "</call>")
RAISES = "{{ raise_exception('roles must alternate') }}"
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(make_tokenizer())


def observation(chat: ChatFormat, *outputs: str) -> list[int]:
    turn = chat.parse([chat.stop_id], call_id_prefix="x")
    return chat.observation_ids(turn, [ToolResult("", "", output, 0.0) for output in outputs])


def call(name: str, arguments: Any) -> str:
    return f'<tool_call>{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments)}}}</tool_call>'


def test_golden_prompt_and_observation(chat: ChatFormat) -> None:
    assert chat.tokenizer.decode(chat.prompt_ids(QUESTION)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert observation(chat, "a") == [
        96, 98, 85, 80, 80, 77, 96, 66, 99, 96, 98, 66, 84, 84, 74, 84, 85, 66, 79, 85, 96
    ]  # fmt: skip
    assert chat.tokenizer.decode(observation(chat, "a", "b")) == (
        "\n<|im_start|>tool\na<|im_end|>\n<|im_start|>tool\nb<|im_end|>\n<|im_start|>assistant\n"
    )


def test_prompt_samples_and_observations_join_to_the_templates_own_text(chat: ChatFormat) -> None:
    """Three turns, token by token: nothing is encoded twice, and the template would have written the same."""
    encode = chat.tokenizer.encode
    said = [f"{CALL}", "let me look again" + CALL, "42"]
    outputs = [["found <b>\n"], ["none", ""]]
    context = chat.prompt_ids(QUESTION)
    messages: list[dict[str, Any]] = [*QUESTION]
    for turn, text in enumerate(said):
        context += [*encode(text, add_special_tokens=False), chat.stop_id]
        parsed = parse_turn(text, call_id_prefix="x")
        calls = [{"type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in parsed.calls]
        messages.append({"role": "assistant", "content": parsed.text, "tool_calls": calls})
        if turn < len(outputs):
            context += observation(chat, *outputs[turn])
            messages += [{"role": "tool", "content": output} for output in outputs[turn]]
    rendered = chat.tokenizer.apply_chat_template(for_template(messages), tokenize=False)
    assert chat.tokenizer.decode(context) + "\n" == rendered
    assert [*context, *encode("\n")] == encode(rendered, add_special_tokens=False)


def test_a_sampled_turn_reads_without_its_stop_token(chat: ChatFormat) -> None:
    ids = chat.tokenizer.encode("yes" + CALL, add_special_tokens=False)
    assert chat.text([*ids, chat.stop_id]) == chat.text(ids) == "yes" + CALL
    assert chat.text([]) == ""


def test_an_output_that_looks_like_markup_stays_inside_its_message(chat: ChatFormat) -> None:
    text = chat.tokenizer.decode(observation(chat, "STANDIN", f"a{END}b"))
    assert text == f"\n<|im_start|>tool\nSTANDIN{END}\n<|im_start|>tool\na{END}b{END}\n<|im_start|>assistant\n"


def test_arguments_as_json_text_are_rendered_as_objects(chat: ChatFormat) -> None:
    function = {"name": "look", "arguments": '{"key": "a"}'}
    message = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    ids = chat.prompt_ids([QUESTION[1], message, {"role": "tool", "content": "b"}])
    assert CALL in chat.tokenizer.decode(ids)
    assert function["arguments"] == '{"key": "a"}'


@pytest.mark.parametrize(
    ("template", "eos", "message"),
    [
        (None, END, "it has no chat template"),
        (TEMPLATE, None, "it has no eos token"),
        (NO_TOOL_CALLS, END, "its chat template does not write tool calls"),
        (OTHER_SYNTAX, END, "its chat template does not write tool calls"),
        (NO_TOOL_OUTPUTS, END, "its chat template drops messages of the role `tool`"),
        (NO_END, END, "does not end an assistant turn with '<|im_end|>'"),
        (RAISES, END, "cannot render a tool call (roles must alternate)"),
    ],
)
def test_a_tokenizer_without_the_syntax_is_refused(template: str | None, eos: str | None, message: str) -> None:
    with pytest.raises(BaselineError) as caught:
        ChatFormat(make_tokenizer(template, eos=eos))
    assert message in str(caught.value)
    assert str(caught.value).startswith("tokenizer (in memory): ")


def test_a_vocabulary_that_cannot_write_a_call_is_refused() -> None:
    tokenizer = make_tokenizer()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    del state["model"]["vocab"]["{"]
    tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(state))
    with pytest.raises(BaselineError, match="its vocabulary does not write tool calls"):
        ChatFormat(tokenizer)


def test_the_budget_is_announced_in_the_system_message() -> None:
    assert announce_budget(QUESTION, 3)[0]["content"] == "Be brief.\nYou may make at most 3 tool calls."
    added = announce_budget(QUESTION[1:], 3)
    assert [message["role"] for message in added] == ["system", "user"]
    assert QUESTION[0]["content"] == "Be brief."


def test_calls_are_read_in_order_with_ids_of_their_own() -> None:
    parsed = parse_turn(f"first {call('a', {'x': 1})} then\n{call(' b ', {})}", call_id_prefix="p")
    assert [(c.id, c.name, json.loads(c.arguments)) for c in parsed.calls] == [
        ("call_p_0", "a", {"x": 1}),
        ("call_p_1", "b", {}),
    ]
    assert parsed.text == "first  then"
    assert parsed.malformed == ()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '"a"',
        '{"name": "a"}',
        '{"arguments": {}}',
        '{"name": 1, "arguments": {}}',
        '{"name": "a", "arguments": []}',
        '{"name": "a", "arguments": "{}"}',
        '{"name": "a", "arguments": {"x": "\\ud800"}}',
        '{"name": "\\udfff", "arguments": {}}',
        '{"name": "a", "arguments": {"x": ' + "9" * 5000 + "}}",
        '{"name": "a", "arguments": {"x": ' + "[" * 100_000 + "}}",
        '{"name": "a", "arguments": ' + '{"x":' * 3000 + "1" + "}" * 3001,
    ],
    ids=lambda body: body[:40] or "empty",
)
def test_what_is_no_call_is_malformed(body: str) -> None:
    parsed = parse_turn(f"so <tool_call>{body}</tool_call>", call_id_prefix="p")
    # nesting within the decoder's limit is a call: it must then be text that can be sent
    assert len(parsed.calls) + len(parsed.malformed) == 1
    assert parsed.malformed == (body,) or len(body) > 10_000
    assert parsed.text == "so"


def test_a_call_without_its_end_is_read_too() -> None:
    assert parse_turn('<tool_call>{"name": "a", "arguments": {}}', call_id_prefix="p").calls[0].name == "a"
    assert parse_turn('<tool_call>{"name": "a', call_id_prefix="p").malformed == ('{"name": "a',)


def test_random_text_never_raises() -> None:
    rng = random.Random(1)
    pieces = ["<tool_call>", "</tool_call>", "{", "}", '"name"', '"arguments"', ":", ",", "[", "\\ud800", "\x00", "é"]
    pieces += ["1e999", '{"name": "a", "arguments": ', "null", "NaN", "\n", "<", "tool_call", '"', "\\", "\ud800"]
    for _ in range(2000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(30)))
        parsed = parse_turn(text, call_id_prefix="p")
        assert len(parsed.calls) + len(parsed.malformed) == text.count("<tool_call>") or "<tool_call>" in text
        for each in parsed.calls:
            assert isinstance(json.loads(each.arguments), dict)
            (each.name + each.arguments).encode()


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_written_is_read(name: str, arguments: dict[str, Any]) -> None:
    if "<" in json.dumps([name, arguments]):
        return  # may hold the closing tag
    parsed = parse_turn(call(name, arguments), call_id_prefix="p")
    try:
        json.dumps([name, arguments], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        assert parsed.malformed
        return
    assert (parsed.calls[0].name, json.loads(parsed.calls[0].arguments)) == (name.strip(), arguments)


def test_tools_of_a_task_are_described_by_the_template() -> None:
    tokenizer = make_tokenizer("{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}" + TEMPLATE)
    chat = ChatFormat(tokenizer)
    messages = [{"role": "user", "content": "what"}]
    tools = [{"type": "function", "function": {"name": "search"}}]
    described = tokenizer.decode(chat.prompt_ids(messages, tools=tools))
    plain = tokenizer.decode(chat.prompt_ids(messages))
    assert "search" in described
    assert "search" not in plain
