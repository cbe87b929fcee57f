"""How the small policy is made: tokenizer, copying, demonstrations."""

from __future__ import annotations

import hashlib
import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from agentrl.chat import ChatFormat, announce_budget, parse_turn
from agentrl.types import ToolResult
from examples.finqa import lexicon
from examples.finqa.baseline import CAREFUL, HASTY, PROMPT, fresh_model, vocabulary
from examples.finqa.copying import learn_to_copy, repeating_batch
from examples.finqa.corpus import load_corpus
from examples.finqa.demonstrations import CLEAN, Habits
from examples.finqa.generate import generate_tables
from examples.finqa.grader import grade_answer
from examples.finqa.pages import render_page
from examples.finqa.pretrain import encode, episodes
from examples.finqa.tasks import load_splits
from examples.finqa.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return build_tokenizer(vocabulary(), inner_words=(*lexicon.COMPANY_FIRST, *lexicon.COMPANY_SECOND))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("482.3", ["▁482", ".3"]),
        ("12,345", ["▁12", ",", "345"]),
        ("0.05977", ["▁0", ".0", "5", "977"]),
        ("net sales 2014 482.3", ["▁net", "▁sales", "▁2014", "▁482", ".3"]),
        ("northern-steel/2014/page_37", ["▁northern", "-", "steel", "/", "2014", "/page_", "37"]),
    ],
)
def test_figures_and_paths_are_cut_the_same_way_everywhere(tokenizer, text: str, tokens: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert tokenizer.tokenize(text) == tokens


def test_a_turn_survives_encoding_and_decoding(tokenizer) -> None:  # type: ignore[no-untyped-def]
    call = '<tool_call>{"name": "calculate", "arguments": {"expression": "( 12,345 - 482.3 ) / 482.3"}}</tool_call>'
    for text in (call, f"net sales 2014 482.3\nthe answer is {0.05977}", f"net sales 2014 5.0{call}"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_text_that_no_piece_covers_is_kept_byte_by_byte(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert tokenizer.decode(tokenizer.encode("naïve 汉字 Zürich")) == "naïve 汉字 Zürich"


def test_the_tokenizer_has_the_tool_call_syntax(tokenizer) -> None:  # type: ignore[no-untyped-def]
    chat = ChatFormat(tokenizer)
    prompt = chat.prompt_ids([{"role": "user", "content": "net sales ?"}])
    assert tokenizer.convert_ids_to_tokens(prompt)[-1] == "<|assistant|>"


def test_clean_demonstrations_end_with_the_right_answer_after_the_fewest_calls() -> None:
    tables = generate_tables(5, n_companies=6)
    source = episodes(tables, random.Random(0), PROMPT, with_search=True, habits=lambda: CLEAN)
    for messages in islice(source, 60):
        calls = [call["function"]["name"] for message in messages for call in message.get("tool_calls", [])]
        assert calls in (["search", "cat"], ["search", "cat", "calculate"])
        shown = next(m["content"] for m in reversed(messages) if m["role"] == "tool")
        said = messages[-1]["content"].split("the answer is ")[1]
        if calls[-1] == "calculate":
            assert grade_answer(said, float(shown), None) == 1.0


def test_hasty_recordings_make_more_calls_than_careful_ones_within_the_budget() -> None:
    tables = generate_tables(5, n_companies=6)

    def mean_calls(habits: Habits) -> float:
        source = episodes(tables, random.Random(0), PROMPT, with_search=True, habits=lambda: habits)
        counts = [sum(len(m.get("tool_calls", [])) for m in messages) for messages in islice(source, 80)]
        assert max(counts) <= 10
        return sum(counts) / len(counts)

    assert mean_calls(CAREFUL) < 4 < 6 < mean_calls(HASTY)


def test_every_call_of_a_demonstration_is_one_that_the_parser_reads(tokenizer) -> None:  # type: ignore[no-untyped-def]
    tables = generate_tables(5, n_companies=6)
    source = episodes(tables, random.Random(1), PROMPT, with_search=True, habits=lambda: HASTY)
    for messages in islice(source, 20):
        ids, said = encode(tokenizer, messages)
        text = tokenizer.decode([token for token, mine in zip(ids, said, strict=True) if mine])
        written = [call["function"] for message in messages for call in message.get("tool_calls", [])]
        read = parse_turn(text, call_id_prefix="x").calls
        assert [(call.name, json.loads(call.arguments)) for call in read] == [
            (function["name"], function["arguments"]) for function in written
        ]


def test_repeating_sequences_can_be_continued_from_what_stood_before() -> None:
    torch.manual_seed(0)
    token_ids, follows = repeating_batch(torch.arange(10, 60), distinct=20, length=64, rows=4)
    for row, mask in zip(token_ids.tolist(), follows.tolist(), strict=True):
        for t in [t for t, is_next in enumerate(mask) if is_next]:
            earlier = row[:20].index(row[t - 1])
            assert row[earlier + 1] == row[t]


def test_the_wired_model_learns_to_copy_within_seconds(tokenizer) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    model = fresh_model(tokenizer, seed=0)
    assert learn_to_copy(model, n_special=6, max_tokens=60_000) > 0.3  # chance is one in eight


def test_the_shipped_baselines_prompts_observations_and_calls_are_pinned() -> None:
    """The checkpoint was trained on these very ids: another spelling would be another task."""
    chat = ChatFormat(AutoTokenizer.from_pretrained("examples/finqa/baseline"))
    tasks = load_splits(Path("examples/finqa/data"))["validation"]
    outputs = [render_page(page) for page in load_corpus(Path("examples/finqa/data")).pages[::400]]
    call = '<tool_call>{"name": "cat", "arguments": {"path": "delta-chemical/2015/page_36"}}</tool_call>'
    turn = chat.parse([*chat.tokenizer.encode(f"net sales 2014 482.3\n{call}"), chat.stop_id], call_id_prefix="p")
    spoken = [chat.prompt_ids(announce_budget(task.messages, 10)) for task in tasks]
    heard = [chat.observation_ids(turn, [ToolResult("", "cat", output, 0.0)]) for output in outputs]
    assert (turn.text, turn.calls[0].name) == ("net sales 2014 482.3", "cat")
    digest = hashlib.sha256(json.dumps([spoken, heard, chat.stop_ids]).encode()).hexdigest()
    assert digest == "09a224cf89f757ec4cb6ea25be2867504c88c54055ca5ce859d1d7eacebfa840"
