"""Each family's own syntax: golden ids, turns taken apart, and text from outside that spells control tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrl.chat import ChatFormat, ParsedTurn, load_template
from agentrl.types import ToolResult
from tests.chat.families import FAMILIES, ids_of, make_chat

QUESTION = [{"role": "user", "content": "Why?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "parameters": {
                "type": "object",
                "properties": {
                    "key": {"type": "string"},
                    "n": {"type": "integer"},
                    "deep": {"type": "boolean"},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
        },
    }
]

# family -> (prompt of QUESTION, a turn that calls find with key "7" after a thought, what follows when it finds "a")
GOLDEN: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "hermes": (
        ("<|im_start|>", "user\nWhy?", "<|im_end|>", "\n", "<|im_start|>", "assistant\n"),
        (
            *("<think>", "\nhm\n", "</think>", "\n\n", "<tool_call>"),
            *('\n{"name": "find", "arguments": {"key": "7"}}\n', "</tool_call>", "<|im_end|>"),
        ),
        (
            *("\n", "<|im_start|>", "user\n", "<tool_response>", "\na\n", "</tool_response>", "<|im_end|>", "\n"),
            *("<|im_start|>", "assistant\n"),
        ),
    ),
    "qwen-xml": (
        ("<|im_start|>", "user\nWhy?", "<|im_end|>", "\n", "<|im_start|>", "assistant\n", "<think>", "\n"),
        (
            *("hm\n", "</think>", "\n\n", "<tool_call>", "\n<function=find>\n<parameter=key>\n7\n</parameter>\n"),
            *("</function>\n", "</tool_call>", "<|im_end|>"),
        ),
        (
            *("\n", "<|im_start|>", "user\n", "<tool_response>", "\na\n", "</tool_response>", "<|im_end|>", "\n"),
            *("<|im_start|>", "assistant\n", "<think>", "\n"),
        ),
    ),
    "llama": (
        (
            *("<|begin_of_text|>", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\nWhy?", "<|eot_id|>"),
            *("<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"),
        ),
        ('{"name": "find", "parameters": {"key": "7"}}', "<|eot_id|>"),
        (
            *("<|start_header_id|>", "ipython", "<|end_header_id|>", '\n\n"a"', "<|eot_id|>"),
            *("<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"),
        ),
    ),
    "mistral-list": (
        ("<s>", "[INST]", " Why?", "[/INST]"),
        ("[TOOL_CALLS]", ' [{"name": "find", "arguments": {"key": "7"}, "id": "abcdEFG12"}]', "</s>"),
        ("[TOOL_RESULTS]", ' {"content": a, "call_id": "abcdEFG12"}', "[/TOOL_RESULTS]"),
    ),
    "mistral-named": (
        ("<s>", "[INST]", "Why?", "[/INST]"),
        ("[TOOL_CALLS]", "find", "[CALL_ID]", "abcdEFG12", "[ARGS]", '{"key": "7"}', "</s>"),
        ("[TOOL_RESULTS]", "abcdEFG12", "[TOOL_CONTENT]", "a", "[/TOOL_RESULTS]"),
    ),
    "gemma": (
        ("<bos>", "<|turn>", "user\nWhy?", "<turn|>", "\n", "<|turn>", "model\n"),
        (
            *("<|channel>", "thought\nhm\n", "<channel|>", "<|tool_call>", "call:find{key:", '<|"|>', "7", '<|"|>'),
            *("}", "<tool_call|>", "<|tool_response>"),
        ),
        ("response:find{value:", '<|"|>', "a", '<|"|>', "}", "<tool_response|>"),
    ),
    "functiongemma": (
        ("<bos>", "<start_of_turn>", "user\nWhy?", "<end_of_turn>", "\n", "<start_of_turn>", "model\n"),
        (
            *("<start_function_call>", "call:find{key:", "<escape>", "7", "<escape>", "}"),
            *("<end_function_call>", "<start_function_response>"),
        ),
        ("response:find{value:", "<escape>", "a", "<escape>", "}", "<end_function_response>"),
    ),
    "glm": (
        ("[gMASK]", "<sop>", "<|user|>", "\nWhy?", "<|assistant|>"),
        (
            *("\n", "<think>", "hm", "</think>", "\n", "<tool_call>", "find\n", "<arg_key>", "key", "</arg_key>"),
            *("\n", "<arg_value>", "7", "</arg_value>", "\n", "</tool_call>", "<|observation|>"),
        ),
        ("\n", "<tool_response>", "\na\n", "</tool_response>", "<|assistant|>"),
    ),
    "harmony": (
        (),  # the system message is long: see test_harmony_introduces_the_tools
        (
            *("<|channel|>", "analysis", "<|message|>", "hm", "<|end|>", "<|start|>", "assistant", "<|channel|>"),
            *("commentary to=functions.find ", "<|constrain|>", "json", "<|message|>", '{"key": "7"}', "<|call|>"),
        ),
        (
            *("<|start|>", "functions.find to=assistant", "<|channel|>", "commentary", "<|message|>", '"a"'),
            *("<|end|>", "<|start|>", "assistant"),
        ),
    ),
}
THINKING = ("hermes", "qwen-xml", "gemma", "glm", "harmony")
STARTS = {name: golden[1] for name, golden in GOLDEN.items()}


def parse(name: str, *pieces: str, tools: Any = TOOLS) -> ParsedTurn:
    chat = make_chat(name)
    return chat.parse(ids_of(chat.tokenizer, *pieces), call_id_prefix="p", tools=tools)  # type: ignore[no-any-return]


def answers(turn: ParsedTurn, *outputs: str) -> list[ToolResult]:
    calls = [(call.id, call.name) for call in turn.calls] + [("", "")] * len(turn.malformed)
    return [ToolResult(*call, output, 0.0) for call, output in zip(calls, outputs, strict=True)]


@pytest.mark.parametrize("name", FAMILIES)
def test_golden_ids(name: str) -> None:
    chat = make_chat(name)
    prompt, said, observed = GOLDEN[name]
    if prompt:
        assert chat.prompt_ids(QUESTION) == ids_of(chat.tokenizer, *prompt)
    turn = parse(name, *said)
    assert chat.observation_ids(turn, answers(turn, "a")) == ids_of(chat.tokenizer, *observed)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_turn_is_taken_apart(name: str) -> None:
    turn = parse(name, *GOLDEN[name][1])
    assert [(call.name, json.loads(call.arguments)) for call in turn.calls] == [("find", {"key": "7"})]
    assert (turn.text, turn.malformed) == ("", ())
    assert turn.reasoning == ("hm" if name in THINKING else "")
    assert turn.stop_id == ids_of(make_chat(name).tokenizer, GOLDEN[name][1][-1])[0]


def test_reasoning_tokens_are_counted_on_the_sampled_ids() -> None:
    # marks and thought; after a generation prompt that opens the thought, its text and the closing mark
    assert parse("hermes", *STARTS["hermes"]).reasoning_tokens == 1 + len("\nhm\n") + 1
    assert parse("qwen-xml", *STARTS["qwen-xml"]).reasoning_tokens == len("hm\n") + 1
    assert parse("gemma", *STARTS["gemma"]).reasoning_tokens == 1 + len("thought\nhm\n") + 1
    assert parse("glm", *STARTS["glm"]).reasoning_tokens == 3 + len("hm") - 1
    assert parse("harmony", *STARTS["harmony"]).reasoning_tokens == 3 + len("analysishm")
    assert parse("llama", *STARTS["llama"]).reasoning_tokens == 0
    # a character of four bytes is four tokens here, also where a mark stands next to it
    assert parse("hermes", "<think>", "🦀", "</think>", "🦀").reasoning_tokens == 6


@pytest.mark.parametrize(
    ("name", "pieces", "reasoning"),
    [
        ("hermes", ("<think>", "a", "</think>", " yes ", "<|im_end|>"), "a"),
        ("hermes", ("<think>", "a", "</think>", "y", "<think>", "b", "</think>", "es", "<|im_end|>"), "a\nb"),
        ("qwen-xml", ("a", "</think>", "yes", "<|im_end|>"), "a"),
        ("llama", ("yes", "<|eot_id|>"), ""),
        ("mistral-list", (" yes", "</s>"), ""),
        ("gemma", ("<|channel>", "thought\na\n", "<channel|>", "yes", "<turn|>"), "a"),
        ("functiongemma", ("yes", "<end_of_turn>"), ""),
        ("glm", ("\n", "<think>", "a", "</think>", "\nyes", "<|user|>"), "a"),
        ("harmony", ("<|channel|>", "final", "<|message|>", "yes", "<|return|>"), ""),
    ],
)
def test_an_answer_is_text_without_thoughts(name: str, pieces: tuple[str, ...], reasoning: str) -> None:
    turn = parse(name, *pieces)
    assert (turn.text, turn.calls, turn.malformed, turn.reasoning) == ("yes", (), (), reasoning)


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("hermes", ("<tool_call>", '{"name": "find", "arguments": {"key": "7"}}', "</tool_call>")),
        ("glm", ("<tool_call>", "find", "<arg_key>", "key", "</arg_key>", "<arg_value>", "7", "</arg_value>")),
        ("gemma", ("<|tool_call>", "call:find{key:", '<|"|>', "7", '<|"|>', "}", "<tool_call|>")),
        ("mistral-named", ("[TOOL_CALLS]", "find", "[ARGS]", '{"key": "7"}')),
        ("llama", ('{"name": "find", "parameters": {"key": "7"}};',)),
    ],
)
def test_parallel_calls_each_have_an_id_and_an_output(name: str, pieces: tuple[str, ...]) -> None:
    chat = make_chat(name)
    closing = ("</tool_call>",) if name == "glm" else ()
    turn = parse(name, *pieces, *closing, *pieces, *closing)
    assert [call.name for call in turn.calls] == ["find", "find"]
    assert len({call.id for call in turn.calls}) == 2
    text = chat.decode(chat.observation_ids(turn, answers(turn, "first", "second")))
    assert text.index("first") < text.index("second")
    assert chat.is_parallel == (name != "llama")
    if name == "llama":  # whose template takes one call at a time
        assert text.count(chat.generation_prompt(QUESTION)) == 1


def test_a_list_is_several_calls() -> None:
    body = ' [{"name": "find", "arguments": {"key": "a"}}, {"name": "look", "arguments": {}}]'
    turn = parse("mistral-list", "[TOOL_CALLS]", body, "</s>")
    assert [call.name for call in turn.calls] == ["find", "look"]
    assert all(len(call.id) == 9 and call.id.isalnum() for call in turn.calls)
    observed = make_chat("mistral-list").observation_ids(turn, answers(turn, "x", "y"))
    text = make_chat("mistral-list").decode(observed)
    assert [f'"call_id": "{call.id}"' in text for call in turn.calls] == [True, True]


def test_several_calls_of_gpt_oss_are_answered_each_by_its_name() -> None:
    call = ("<|channel|>", "commentary to=functions.{} ", "<|constrain|>", "json", "<|message|>", "{{}}")
    pieces = [piece.format("find") for piece in call] + ["<|end|>", "<|start|>", "assistant"]
    turn = parse("harmony", *pieces, *[piece.format("look") for piece in call], "<|call|>")
    chat = make_chat("harmony")
    assert chat.decode(chat.observation_ids(turn, answers(turn, "x", "y"))) == (
        '<|start|>functions.find to=assistant<|channel|>commentary<|message|>"x"<|end|>'
        '<|start|>functions.look to=assistant<|channel|>commentary<|message|>"y"<|end|><|start|>assistant'
    )


@pytest.mark.parametrize(
    ("name", "pieces", "answered_as"),
    [
        ("hermes", ("<tool_call>", '{"name": "find"', "</tool_call>", "<|im_end|>"), ""),
        ("qwen-xml", ("</think>", "<tool_call>", "<function=find><parameter=key>7", "</tool_call>", "<|im_end|>"), ""),
        ("qwen-xml", ("</think>", "<tool_call>", '{"name": "find"}', "</tool_call>", "<|im_end|>"), ""),
        ("glm", ("<tool_call>", '{"name": "find"}', "</tool_call>", "<|observation|>"), ""),
        ("glm", ("<tool_call>", "find\n", "<arg_key>", "key", "</tool_call>", "<|observation|>"), ""),
        ("llama", ('{"name": "find", "parameters": {"key"', "<|eot_id|>"), ""),
        ("llama", ("<|python_tag|>", "print(1)", "<|eom_id|>"), ""),
        ("llama", ('{"name": "find", "parameters": []}', "<|eot_id|>"), ""),
        ("mistral-list", ("[TOOL_CALLS]", ' [{"name": "find"', "</s>"), ""),
        ("mistral-list", ("[TOOL_CALLS]", " []", "</s>"), ""),
        ("mistral-named", ("[TOOL_CALLS]", "find", "[ARGS]", "{key", "</s>"), ""),
        ("gemma", ("<|tool_call>", "call:find{key:", '<|"|>', "7}", "<tool_call|>", "<|tool_response>"), "find"),
        ("gemma", ("<|tool_call>", "find", "<tool_call|>", "<|tool_response>"), "unknown"),
        ("harmony", ("<|channel|>", "commentary to=functions.find", "<|message|>", "7", "<|call|>"), "find"),
        ("harmony", ("<|channel|>", "commentary to=browser.open", "<|call|>"), "browser.open"),
    ],
)
def test_a_malformed_call_is_listed_and_can_be_answered(name: str, pieces: tuple[str, ...], answered_as: str) -> None:
    chat = make_chat(name)
    turn = parse(name, *pieces)
    assert (turn.calls, len(turn.malformed)) == ((), 1)
    text = chat.decode(chat.observation_ids(turn, answers(turn, "no call")))
    assert "no call" in text
    assert answered_as in text


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("llama", ('{"answer": 42}', "<|eot_id|>")),
        ("llama", ('{"name": "Bob"}', "<|eot_id|>")),
        ("llama", ("the key is {", "<|eot_id|>")),
        ("harmony", ("yes", "<|return|>")),
    ],
)
def test_json_and_braces_alone_are_no_call(name: str, pieces: tuple[str, ...]) -> None:
    turn = parse(name, *pieces)
    assert (turn.text, turn.calls, turn.malformed) == (pieces[0], (), ())


def test_calls_inside_a_thought_are_not_made() -> None:
    call = ("<tool_call>", '{"name": "find", "arguments": {}}', "</tool_call>")
    turn = parse("hermes", "<think>", "maybe ", *call, "</think>", "no", "<|im_end|>")
    assert (turn.calls, turn.text) == ((), "no")
    cut_off = parse("hermes", "<think>", "maybe ", *call)
    assert (cut_off.calls, cut_off.text) == ((), "")
    assert cut_off.reasoning_tokens == 3 + len("maybe " + call[1])  # all of the turn


def test_what_gpt_oss_says_before_a_call_is_neither_thought_nor_answer() -> None:
    preamble = ("<|channel|>", "commentary", "<|message|>", "I look it up.", "<|end|>", "<|start|>", "assistant")
    turn = parse("harmony", *preamble, *STARTS["harmony"])
    assert (turn.text, turn.reasoning, len(turn.calls)) == ("I look it up.", "hm", 1)


def test_values_without_quotes_have_the_type_of_the_schema() -> None:
    values = {"key": "12", "n": "12", "deep": "True", "note": "7"}
    xml = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    pairs = [
        piece
        for key, value in values.items()
        for piece in ("<arg_key>", key, "</arg_key>", "\n", "<arg_value>", value, "</arg_value>", "\n")
    ]
    for turn in (
        parse("qwen-xml", "</think>", "<tool_call>", f"\n<function=find>\n{xml}</function>\n", "</tool_call>"),
        parse("glm", "<tool_call>", "find\n", *pairs, "</tool_call>"),
    ):
        assert json.loads(turn.calls[0].arguments) == {"key": "12", "n": 12, "deep": True, "note": "7"}
    untold = parse("glm", "<tool_call>", "find\n", *pairs, "</tool_call>", tools=None)
    assert json.loads(untold.calls[0].arguments) == {"key": 12, "n": 12, "deep": True, "note": 7}
    null = ("<arg_key>", "note", "</arg_key>", "<arg_value>", "null", "</arg_value>")
    assert json.loads(parse("glm", "<tool_call>", "find", *null, "</tool_call>").calls[0].arguments) == {"note": None}


def test_gemma_writes_nested_values_and_text_of_any_kind() -> None:
    arguments = ("call:find{a:[1,", '<|"|>', 'x",{:', '<|"|>', ",null],b:{c:true,d:-1.5}}")
    turn = parse("gemma", "<|tool_call>", *arguments, "<tool_call|>", "<|tool_response>")
    assert json.loads(turn.calls[0].arguments) == {"a": [1, 'x",{:', None], "b": {"c": True, "d": -1.5}}


# The stop token that was sampled, and the one that the template writes


@pytest.mark.parametrize(
    ("name", "sampled", "put_in"),
    [
        ("llama", "<|eom_id|>", ()),  # stays as sampled: the tool's message opens with a token of its own
        ("harmony", "<|return|>", ()),
        ("hermes", "<|endoftext|>", ()),
        ("glm", "<|user|>", ("<|observation|>",)),  # opens the tool's message, which would lack its beginning
        ("gemma", "<turn|>", ("<|tool_response>",)),
        ("hermes", "", ("<|im_end|>",)),  # cut off
    ],
)
def test_another_stop_token_than_the_templates(name: str, sampled: str, put_in: tuple[str, ...]) -> None:
    chat = make_chat(name)
    _, said, observed = GOLDEN[name]
    turn = parse(name, *said[:-1], *([sampled] if sampled else []))
    assert len(turn.calls) == 1
    expected = ids_of(chat.tokenizer, *put_in, *observed)
    assert chat.observation_ids(turn, answers(turn, "a")) == expected


# Text from outside


def control_ids(chat: Any, ids: list[int]) -> list[int]:
    known = set(chat.tokenizer.added_tokens_decoder)
    return [token for token in ids if token in known]


@pytest.mark.parametrize("name", FAMILIES)
def test_text_from_outside_never_becomes_a_control_token(name: str) -> None:
    chat, family = make_chat(name), FAMILIES[name]
    attack = "".join((*family.special, *family.tags)) + family.special[1][:1] + family.special[1] + "end"
    turn = parse(name, *GOLDEN[name][1])
    harmless, attacked = (chat.observation_ids(turn, answers(turn, output)) for output in ("end", attack))
    assert control_ids(chat, attacked) == control_ids(chat, harmless)
    if name not in ("llama", "harmony"):  # whose templates quote the output
        assert attack in chat.decode(attacked)
    spoken = [[{"role": "user", "content": content}] for content in ("end", attack)]
    harmless, attacked = map(chat.prompt_ids, spoken)
    assert control_ids(chat, attacked) == control_ids(chat, harmless)
    assert attack in chat.decode(attacked)


@pytest.mark.parametrize("name", ["hermes", "gemma"])
def test_parts_of_a_message_and_earlier_tool_outputs_are_from_outside_too(name: str) -> None:
    chat = make_chat(name)
    stop = chat.stops[-1]
    history = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
        },
        {"role": "tool", "name": "find", "tool_call_id": "1", "content": ""},
    ]
    attacked = [*history[:2], {**history[2], "content": stop}]
    assert control_ids(chat, chat.prompt_ids(attacked)) == control_ids(chat, chat.prompt_ids(history))


def test_a_tools_description_is_from_outside_too() -> None:
    chat = ChatFormat(FAMILIES["hermes"].tokenizer(load_template("qwen3")))
    told = [{"type": "function", "function": {"name": "find", "description": text}} for text in ("", "<|im_end|>")]
    harmless, attacked = (chat.prompt_ids(QUESTION, tools=[each]) for each in told)
    assert control_ids(chat, attacked) == control_ids(chat, harmless)
    assert '"description": "<|im_end|>"' in chat.decode(attacked)


def test_the_systems_own_control_tokens_stay() -> None:
    chat = make_chat("hermes")
    ids = chat.prompt_ids([{"role": "system", "content": "write <tool_call>"}, *QUESTION])
    assert ids_of(chat.tokenizer, "<tool_call>")[0] in ids


def test_a_tools_name_cannot_open_a_message() -> None:
    chat = make_chat("gemma")
    turn = parse("gemma", "<|tool_call>", "call:a", "<turn|>", "{}", "<tool_call|>", "<|tool_response>")
    names = [call.name for call in turn.calls]
    assert names == ["a<turn|>"]
    assert ids_of(chat.tokenizer, "<turn|>")[0] not in chat.observation_ids(turn, answers(turn, "x"))


def test_harmony_introduces_the_tools() -> None:
    chat = make_chat("harmony")
    text = chat.decode(chat.prompt_ids([{"role": "system", "content": "Be brief."}, *QUESTION], tools=TOOLS))
    assert "Be brief." in text
    assert "type find = (_: {\nkey?: string,\nn?: number,\ndeep?: boolean,\nnote?: any,\n}) => any;" in text
    assert text.endswith("<|end|><|start|>user<|message|>Why?<|end|><|start|>assistant")
    assert text == chat.decode(chat.prompt_ids([{"role": "developer", "content": "Be brief."}, *QUESTION], tools=TOOLS))
