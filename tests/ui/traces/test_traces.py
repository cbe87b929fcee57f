"""A trace becomes records for a page: nothing in a text is hidden, and no trace is too old or too broken to show."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.printable import visible
from agentrl.runs.traces import to_trace
from agentrl.types import Grade, ToolCall, ToolResult, Turn
from agentrl.ui.traces import alignment
from agentrl.ui.traces.alignment import differences, pairs
from agentrl.ui.traces.episode import episode_view
from agentrl.ui.traces.said import said_in
from agentrl.ui.traces.texts import arguments, excerpt, passage
from agentrl.ui.traces.views import EpisodeView
from agentrl.ui.traces.waterfall import waterfall
from tests.factories import make_rollout


def view(**fields: Any) -> EpisodeView:
    return episode_view(to_trace(make_rollout(**fields)))


def text_in(found: Any) -> str:
    return "".join(piece.text for piece in (*found.head, *found.rest))


# --- texts ---


def test_t17_what_cannot_be_seen_is_shown() -> None:
    assert visible("a\x1b[31mb\x00") == "a␛[31mb␀"
    assert visible("pay \u202efdp.exe") == "pay [U+202E]fdp.exe"
    assert visible("x\u200by\ufeff\U000e0041") == "x[U+200B]y[U+FEFF][U+E0041]"
    assert visible("\ud800").encode()  # half a character could not be sent
    assert visible("lines\n\tstay, ‘žluťoučký’ 👩‍💻 too") == "lines\n\tstay, ‘žluťoučký’ 👩‍💻 too"


@given(st.text(), st.text(max_size=3))
def test_a_passage_holds_the_whole_text(text: str, needle: str) -> None:
    found = passage(text, needle, fold=8)
    assert text_in(found) == visible(text) or needle  # marks may part a surrogate pair's escape, never lose text
    assert len(text_in(found)) == len(visible(text))
    assert found.folded == 0 or found.rest


def test_a_long_text_is_folded_at_a_line_and_says_how_much_is_left() -> None:
    found = passage("a" * 90 + "\n" + "b" * 500, fold=100)
    assert (text_in(replace(found, rest=())), found.folded, found.left_out) == ("a" * 90 + "\n", 500, 0)
    assert passage("x" * 100_050).left_out == 50
    assert passage("ab" * 60, fold=100).folded == 0


def test_what_was_looked_for_is_marked_whatever_its_case() -> None:
    found = passage("Goodwill, <b>GOODwill</b>", "goodwill")
    assert [(piece.text, piece.is_hit) for piece in found.head] == [
        ("Goodwill", True),
        (", <b>", False),
        ("GOODwill", True),
        ("</b>", False),
    ]
    assert passage("a" * 300 + "Ž", "ž", fold=100).has_hit_below
    assert [piece.text for piece in passage("İstanbul istanbul", "istanbul").head][-1] == "istanbul"


def test_an_excerpt_is_one_line_around_the_first_hit() -> None:
    found = excerpt("x" * 100 + "\nthe NEEDLE\nis here" + "y" * 100, "needle", around=10)
    assert [piece.is_hit for piece in found] == [False, True, False]
    assert "\n" not in "".join(piece.text for piece in found)
    assert excerpt("nothing", "needle") == ()


def test_arguments_keep_their_lines_and_their_kinds() -> None:
    found = arguments(json.dumps({"code": "a\nb", "year": "2017", "n": 3, "deep": {"a": [1]}}))
    assert found is not None
    assert [(each.name, text_in(each.value), each.is_text) for each in found] == [
        ("code", "a\nb", True),
        ("year", '"2017"', True),
        ("n", "3", False),
        ("deep", '{\n "a": [\n  1\n ]\n}', False),
    ]
    assert arguments("[1]") is None
    assert arguments("{not json") is None
    assert arguments("[" * 100_000) is None


# --- what a turn says ---


def test_thoughts_calls_and_text_are_told_apart() -> None:
    call = '<tool_call>{"name": "search", "arguments": {}}</tool_call>'
    assert said_in(f"<think>hm</think>I look.\n{call}", calls=1, thinks=True).thoughts == "hm"
    assert said_in(f"<think>hm</think>I look.\n{call}", calls=1, thinks=True).text == "I look."
    assert said_in(f"hm</think>I look.\n{call}", calls=1, thinks=True).thoughts == "hm"  # the prompt opened it
    harmony = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>42"
    assert said_in(harmony, calls=0, thinks=True, answer="42").text == "42"


def test_what_the_policy_only_wrote_about_thoughts_is_text() -> None:
    said = said_in("a <think> tag", calls=0, thinks=False)
    assert (said.thoughts, said.text, said.is_taken_apart) == ("", "a <think> tag", True)
    unknown = said_in("<<call>>", calls=1, thinks=False)
    assert (unknown.text, unknown.is_taken_apart) == ("<<call>>", False)


# --- the episode ---


def test_an_episode_has_its_turns_calls_and_outputs() -> None:
    found = view(task_id="q1", answer="It is 42", score=0.5)
    assert [call.name for turn in found.turns for call in turn.calls] == ["search", "cat"]
    assert found.turns[0].calls[0].result is not None
    assert text_in(found.turns[0].calls[0].result.output) == "some text"
    assert text_in(found.turns[2].text) == "It is 42"
    assert (found.grade.score, found.tool_calls, found.output_tokens, found.problems) == (0.5, 2, 10, ())


def test_a_result_without_its_call_is_shown_beside() -> None:
    rollout = make_rollout()
    results = (ToolResult("", "", "malformed", 0.0, is_error=True), *rollout.turns[0].tool_results)
    turn = replace(rollout.turns[0], tool_results=results, malformed_calls=1)
    found = episode_view(to_trace(replace(rollout, turns=(turn, *rollout.turns[1:]))))
    assert [text_in(each.output) for each in found.turns[0].other_results] == ["malformed"]
    assert found.turns[0].calls[0].result is not None


def test_what_an_api_said_is_shown_as_it_is() -> None:
    call = ToolCall("c", "search", "{}")
    turn = Turn((), (), "I look.", (call,), (), (), 0, 1.0, reasoning_tokens=5, unseen_tokens=12)
    found = view(turns=(turn,))
    assert (text_in(found.turns[0].text), found.turns[0].is_taken_apart) == ("I look.", True)
    assert (found.output_tokens, found.reasoning_tokens) == (12, 5)


def test_every_part_of_the_grade_is_there() -> None:
    grade = Grade(
        0.5, sub_scores={"a.b": 1.0}, turn_scores=(0.25, 1.0, 0.0), explanation="why", errors=("sample_parse_error",),
        tokens={"judge": {"prompt": 9, "completion": 2}}, cost_usd=0.01, holdout={"strict": 0.0},
        holdout_missing={"lax": "timed out"},
    )  # fmt: skip
    found = view(grade=grade)
    assert [turn.score for turn in found.turns] == [0.25, 1.0, 0.0]
    assert found.grade.tokens[0].kinds == {"prompt": 9.0, "completion": 2.0}
    assert (found.grade.holdout, found.grade.holdout_missing) == ({"strict": 0.0}, {"lax": "timed out"})


@pytest.mark.parametrize(
    "trace",
    [
        {},
        {"turns": None, "grade": None, "messages": "hi", "seconds": "long", "prompt_ids": 3},
        {"turns": ["x", None, 3, {"tool_calls": "none", "tool_results": [None, "x"], "seconds": math.nan}]},
        {"turns": [{"text": 3, "tool_calls": [{"id": None, "arguments": {"a": 1}}], "tool_results": [{"output": []}]}]},
        {"messages": [None, {"content": [{"type": "image"}, "x"]}, {"role": 3}], "grade": {"score": "high"}},
        {"grade": {"sub_scores": {"a": None}, "tokens": {"m": 3}, "turn_scores": 1, "errors": "x"}, "item": [1]},
        {"sample_index": 1e400, "turns": [{"policy_version": 10**400, "attempts": -3, "reasoning_tokens": 1e308}]},
    ],
)
def test_a_damaged_trace_is_shown_as_far_as_it_goes(trace: dict[str, Any]) -> None:
    found = episode_view(trace, "x")
    assert waterfall(found) is None or waterfall(found)
    assert pairs(found.turns, found.turns) is not None
    assert differences(found, view())
    assert found.problems


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TURN = st.fixed_dictionaries({}, optional=dict.fromkeys(to_trace(make_rollout())["turns"][0], JSON))
GRADE = st.fixed_dictionaries({}, optional=dict.fromkeys(to_trace(make_rollout())["grade"], JSON))


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {}, optional={**dict.fromkeys(to_trace(make_rollout()), JSON), "turns": st.lists(TURN), "grade": GRADE}
    )
)
def test_no_trace_is_refused(trace: dict[str, Any]) -> None:
    found = episode_view(trace, "a")
    waterfall(found)
    assert len(found.turns) == len(trace.get("turns", ()))


# --- the waterfall ---


def test_tools_of_a_turn_run_beside_each_other_and_the_rest_is_told() -> None:
    calls = (ToolCall("a", "search", "{}"), ToolCall("b", "cat", "{}"))
    results = (ToolResult("a", "search", "x", 2.0), ToolResult("b", "cat", "y", 3.0, is_error=True))
    turns = (Turn((1,), (-0.1,), "", calls, results, (2,), 0, 1.0), Turn((1,), (-0.1,), "42", (), (), (), 0, 0.5))
    found = waterfall(view(turns=turns, seconds=5.0, grade=Grade(1.0, seconds=0.25)))
    assert found is not None
    assert [(bar.label, bar.start, bar.seconds) for bar in found.bars] == [
        ("generation", 0.0, 1.0),
        ("search", 1.0, 2.0),
        ("cat", 1.0, 3.0),
        ("generation", 4.0, 0.5),
        ("waiting, encoding", 4.5, 0.5),
        ("grader", 5.0, 0.25),
    ]
    assert found.by_kind == {"generation": 1.5, "tools": 3.0, "grading": 0.25, "untold": 0.5}
    assert found.seconds == 5.25
    assert [bar.is_error for bar in found.bars] == [False, False, True, False, False, False]


def test_nothing_timed_is_no_waterfall() -> None:
    assert waterfall(episode_view({"turns": [{}]})) is None


# --- side by side ---


def test_like_turns_stand_beside_each_other() -> None:
    left = view(tools=("search", "search", "cat", "calculate"))
    right = view(tools=("search", "calculate"))
    found = [(p.left and p.left.number, p.right and p.right.number) for p in pairs(left.turns, right.turns)]
    assert found == [(1, 1), (2, None), (3, None), (4, 2), (5, 3)]


def test_a_pair_says_how_it_differs() -> None:
    left, right = view(tools=("search", "cat"), answer="41"), view(tools=("search", "list"), answer="42")
    assert [pair.what for pair in pairs(left.turns, right.turns)] == ["the same calls", "other tools", "another text"]
    assert all(pair.is_same for pair in pairs(left.turns, left.turns))


def test_a_pair_names_the_arguments_that_are_not_the_same() -> None:
    written = ('{"path": "a", "page": 1}', '{"path": "a", "page": 2, "lines": 3}')
    turns = [Turn((1,), (-0.1,), "", (ToolCall("c", "cat", each),), (), (), 0, 1.0) for each in written]
    left, right = (view(turns=(turn,)) for turn in turns)
    assert pairs(left.turns, right.turns)[0].differing == (frozenset({"page", "lines"}),)


@settings(max_examples=40)
@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_every_turn_of_both_is_there_once_and_in_order(left: list[str], right: list[str]) -> None:
    one, other = view(tools=left), view(tools=right)
    found = pairs(one.turns, other.turns)
    assert [pair.left.number for pair in found if pair.left] == [turn.number for turn in one.turns]
    assert [pair.right.number for pair in found if pair.right] == [turn.number for turn in other.turns]
    assert all(pair.left or pair.right for pair in found)
    assert not any(p.left and p.right and bool(p.left.calls) != bool(p.right.calls) for p in found)


@settings(max_examples=20)
@given(st.lists(st.sampled_from("ab"), max_size=3), st.lists(st.sampled_from("ab"), max_size=3))
def test_long_episodes_are_paired_by_number(left: list[str], right: list[str]) -> None:
    one, other = view(tools=left), view(tools=right)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "MAX_CELLS", 0)
        found = pairs(one.turns, other.turns)
    assert len(found) == max(len(one.turns), len(other.turns))
    assert all(pair.what for pair in found)


def test_figures_say_which_way_is_better() -> None:
    worse, better = view(score=0.0, tools=("cat", "cat", "cat"), tokens=50), view(score=1.0)
    found = {each.name: (each.change, each.verdict) for each in differences(worse, better)}
    assert found["score"] == (1.0, "better")
    assert found["tool calls"] == (-1.0, "")
    assert found["repeated tools"] == (-2.0, "")
    assert found["turns"] == (-1.0, "")
    assert differences(view(score=None), better)[0].change is None
