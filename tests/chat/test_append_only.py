"""A dialogue said token by token is the one that the template renders, or the template is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agentrl.chat import TEMPLATES, ChatFormat, append_only_report, check_append_only, load_template
from agentrl.errors import BaselineError
from tests.chat.families import FAMILIES, HERMES, QWEN3_DROPS_THOUGHTS, make_chat
from tests.engine_fixtures import make_tokenizer

THINKS = {"qwen-xml", "gemma", "glm", "harmony"}


def hermes(template: str) -> ChatFormat:
    return ChatFormat(FAMILIES["hermes"].tokenizer(template))


@pytest.mark.parametrize("name", FAMILIES)
def test_said_and_rendered_are_the_same_ids(name: str) -> None:
    report = append_only_report(make_chat(name))
    assert (report.difference, report.respelled, report.unread) == (None, None, "")
    assert report.has_thoughts == (name in THINKS)
    assert report.tokens > 50
    check_append_only(make_chat(name))


def test_the_fake_tokenizer_of_other_tests_is_fit() -> None:
    check_append_only(ChatFormat(make_tokenizer()))


@pytest.mark.parametrize(
    ("chat", "where", "said", "rendered", "shipped"),
    [
        (lambda: hermes(QWEN3_DROPS_THOUGHTS), "in the prompt of turn 2", "<think>", "<tool_call>", "`qwen3`"),
        (
            lambda: ChatFormat(FAMILIES["harmony"].tokenizer()),
            "once turn 3 is written",
            "<|channel|>analysis",
            "istant to=",
            "`gpt-oss`",
        ),
    ],
    ids=["qwen3", "gpt-oss"],
)
def test_a_template_that_drops_thoughts_is_refused(
    chat: Any, where: str, said: str, rendered: str, shipped: str
) -> None:
    difference = append_only_report(chat()).difference
    assert difference is not None
    assert (difference.where, said in difference.said, rendered in difference.rendered) == (where, True, True)
    with pytest.raises(BaselineError) as caught:
        check_append_only(chat())
    remedies = (f"workflow.chat_template to {shipped}, a training template", "one training sample a turn")
    for part in ("rewrites earlier turns", where, *remedies):
        assert part in str(caught.value)


def test_the_token_that_differs_is_named() -> None:
    chat = hermes(QWEN3_DROPS_THOUGHTS)
    difference = append_only_report(chat).difference
    assert difference is not None
    prompt = chat.prompt_ids([{"role": "user", "content": "x"}])
    assert difference.token == len(prompt)  # the first token of the first turn


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (("{{- '<|im_end|>\\n' -}}", "{{- '<|im_end|>' + ('\\n' if not loop.last else '') -}}"), "once turn 1"),
        (("{{- '<|im_start|>user' if", "{{- loop.length | string + '<|im_start|>user' if"), "once turn 2"),
        (("{{- '<|im_end|>\\n' -}}", "{{- '<|im_end|>' -}}"), None),
    ],
    ids=["a line break that comes later", "a count of the messages", "no line breaks"],
)
def test_what_changes_with_the_number_of_messages_is_a_rewrite(change: tuple[str, str], where: str | None) -> None:
    template = HERMES.replace(*change)
    assert template != HERMES
    difference = append_only_report(hermes(template)).difference
    assert (difference is None) == (where is None)
    if difference and where:
        assert difference.where.startswith(where)


def test_a_second_user_message_is_looked_at_but_refuses_nothing() -> None:
    last = "{%- set last = namespace(user=0) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    last += "{%- set last.user = loop.index -%}{%- endif -%}{%- endfor -%}"
    drops = FAMILIES["glm"].template.replace(
        "(message.reasoning_content or '')", "(message.reasoning_content or '' if loop.index > last.user else '')"
    )
    report = append_only_report(ChatFormat(FAMILIES["glm"].tokenizer(last + drops)))
    assert report.is_fit
    assert report.follow_up is not None
    assert "first a" in report.follow_up.said
    assert append_only_report(make_chat("glm")).follow_up is None


def test_the_same_text_in_other_tokens_is_harmless() -> None:
    """A tokenizer with a token for two line breaks, and a generation prompt that ends with one of them."""
    tokenizer = FAMILIES["qwen-xml"].tokenizer()
    tokenizer.add_tokens(["\n\n"])
    report = append_only_report(ChatFormat(tokenizer))
    assert report.is_fit
    assert report.respelled is not None
    assert "</think>" in report.respelled.said


def sentencepiece_like(name: str) -> Any:
    """A tokenizer that marks the start of a text, but not what follows a control token."""
    family = FAMILIES[name]
    characters = ["<unk>", "▁", "\n", *map(chr, range(33, 127))]
    tokenizer = Tokenizer(models.BPE({each: index for index, each in enumerate(characters)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=family.eos, bos_token=family.bos, chat_template=family.template.lstrip()
    )


@pytest.mark.parametrize("name", ["mistral-list", "mistral-named", "functiongemma"])
def test_a_tokenizer_that_marks_the_start_of_a_text_marks_no_observation(name: str) -> None:
    chat = ChatFormat(sentencepiece_like(name))
    report = append_only_report(chat)
    assert (report.difference, report.respelled, report.unread) == (None, None, "")
    marked = chat.tokenizer.encode("x", add_special_tokens=False)
    assert chat.encode("x", is_continued=True) == marked[1:] != marked


def test_a_dialogue_that_cannot_be_rendered_is_refused() -> None:
    template = "{{- raise_exception('long') if messages | length > 4 -}}" + HERMES
    with pytest.raises(BaselineError, match="cannot render a dialogue of three turns \\(long\\)"):
        check_append_only(hermes(template))


def test_calls_that_are_not_read_back_are_refused() -> None:
    template = HERMES.replace(
        "call.function.arguments | tojson", "(call.function.arguments | tojson if loop.length == 1 else '[]')"
    )
    chat = hermes(template)
    assert not append_only_report(chat).is_fit
    with pytest.raises(BaselineError, match="writes what is not read back: the calls of turn 2"):
        check_append_only(chat)


@pytest.mark.parametrize(("name", "family"), [("qwen3", "hermes"), ("gpt-oss", "harmony")])
def test_a_shipped_template_never_rewrites(name: str, family: str) -> None:
    report = append_only_report(ChatFormat(FAMILIES[family].tokenizer(load_template(name))))
    assert report.is_fit
    assert report.has_thoughts
    assert report.follow_up is None
    assert name in TEMPLATES


@pytest.mark.parametrize(("name", "family"), [("qwen3", "hermes"), ("gpt-oss", "harmony")])
def test_a_shipped_template_marks_what_the_assistant_says(name: str, family: str) -> None:
    """So that it serves supervised fine-tuning as well: the mask ends with the stop token."""
    tokenizer = FAMILIES[family].tokenizer(load_template(name))
    call = {"type": "function", "function": {"name": "find", "arguments": {}}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "found"},
        {"role": "assistant", "content": "42"},
    ]
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    said = [token for token, mine in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mine]
    text = tokenizer.decode(said)
    assert "find" in text
    assert "42" in text
    assert "found" not in text
    assert said[-1] == tokenizer.eos_token_id


def test_a_template_is_a_name_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(HERMES)
    assert load_template(str(path)) == HERMES
    with pytest.raises(BaselineError, match=r"no such file; give a \.jinja file or one of: gpt-oss, qwen3"):
        load_template("qwen")


# The templates of the real models, where trl is installed, which carries copies of them

REAL = {
    "qwen2_5": ("hermes", "hermes", True),
    "qwen3": ("hermes", "hermes", False),
    "qwen3_instruct_2507": ("hermes", "hermes", True),
    "qwen3_5_think": ("hermes", "qwen-xml", True),
    "qwen3_5_nothink": ("hermes", "qwen-xml", True),
    "nemotron_3_nano": ("hermes", "qwen-xml", False),
    "llama3_1": ("llama", "llama", True),
    "llama3_2": ("llama", "llama", True),
    "gemma4_v2": ("gemma", "gemma", True),
    "gemma4_v5": ("gemma", "gemma", True),
    "glm4moe": ("glm", "glm", True),
    "gptoss": ("harmony", "harmony", False),
}
"""Tokenizer's family, syntax found, fit for training."""


def real_template(name: str) -> str:
    trl = find_spec("trl")
    path = Path(str(trl.origin)).parent / "chat_templates" / f"{name}.jinja" if trl else None
    if path is None or not path.is_file():
        pytest.skip(f"no trl with the template {name}")
    return path.read_text("utf-8")


@pytest.mark.parametrize("name", REAL)
def test_real_templates(name: str) -> None:
    family, syntax, is_fit = REAL[name]
    report = append_only_report(ChatFormat(FAMILIES[family].tokenizer(real_template(name))))
    assert (report.syntax, report.is_fit, report.unread) == (syntax, is_fit, "")


@pytest.mark.parametrize(("name", "family"), [("gemma3", "functiongemma"), ("llama3", "llama")])
def test_real_templates_without_tool_calls_are_refused(name: str, family: str) -> None:
    with pytest.raises(BaselineError, match="does not write tool calls: it leaves out `tool_calls`") as caught:
        ChatFormat(FAMILIES[family].tokenizer(real_template(name)))
    for syntax in ("hermes", "harmony", "gemma", "mistral", "llama", "glm"):
        assert f"{syntax}: " in str(caught.value)


@pytest.mark.parametrize(("ours", "theirs", "family"), [("qwen3", "qwen3", "hermes"), ("gpt-oss", "gptoss", "harmony")])
def test_a_shipped_template_writes_prompts_and_tool_loops_as_the_real_one(ours: str, theirs: str, family: str) -> None:
    """Thoughts in every turn and no answer yet: there the real template rewrites nothing."""
    chats = [ChatFormat(FAMILIES[family].tokenizer(text)) for text in (load_template(ours), real_template(theirs))]
    parameters = {
        "type": "object",
        "properties": {
            "key": {"type": "string", "description": "What to find."},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "n": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["key"],
    }
    tools = [
        {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": parameters}},
        {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {}}},
    ]
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": {"key": "a", "n": [1]}}}
    thought = {"reasoning_content": "hm", "thinking": "hm"}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call], **thought},
        {"role": "tool", "name": "find", "tool_call_id": "1", "content": "found"},
    ]
    for upto in (2, len(messages)):
        assert same_but_for_the_date(*(chat.render(messages[:upto], generate=True, tools=tools) for chat in chats))
    assert same_but_for_the_date(*(chat.render([messages[1]], generate=True) for chat in chats))


def same_but_for_the_date(*texts: str) -> bool:
    ours, theirs = ([line for line in text.split("\n") if "Current date" not in line] for text in texts)
    assert ours == theirs
    return True


def test_a_family_without_a_shipped_template_is_told_to_write_one() -> None:
    drops = FAMILIES["glm"].template.replace(
        "(message.reasoning_content or '')", "(message.reasoning_content or '' if loop.last else '')"
    )
    with pytest.raises(BaselineError, match=r"to a \.jinja file of your own that writes every turn as it was said"):
        check_append_only(ChatFormat(FAMILIES["glm"].tokenizer(drops)))
