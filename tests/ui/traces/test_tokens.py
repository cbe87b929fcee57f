"""Tokens have their texts, their numbers and a colour for each number; what is missing is said."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from agentrl.runs.token_facts import TokenFacts
from agentrl.runs.traces import to_trace
from agentrl.ui.traces.spelling import spelling
from agentrl.ui.traces.tokens import MAX_TOKENS, level_of, token_strip
from tests.factories import make_rollout

BASELINE = Path(__file__).parents[3] / "examples" / "finqa" / "baseline"
FACTS = TokenFacts(
    "trace_t1-0",
    advantages=((1.0, -2.0, 0.0), (0.5,) * 3, (0.5,) * 4),
    values=None,
    logprobs=((-1.0,) * 3,) * 2 + ((-1.0,) * 4,),
    ref_logprobs=((-1.5, -1.0, None), (-1.0,) * 3, (-1.0,) * 4),
)


def test_a_token_has_its_numbers_and_their_colours() -> None:
    strip = token_strip(to_trace(make_rollout()), 1, facts=FACTS, spell=None)
    assert strip is not None
    assert [measure.key for measure in strip.measures] == ["logprob", "advantage", "kl"]
    assert strip.tokens[0].title == (
        "token 1, id 10 · log-probability −0.1235 (p 0.884) · advantage +1 · log-ratio to the reference +0.5"
    )
    assert [token.levels["advantage"] for token in strip.tokens] == [5, 0, 3]
    assert "kl" not in strip.tokens[2].levels  # the reference said nothing finite
    assert [token.text for token in strip.tokens] == ["[10]", "[11]", "[12]"]
    assert "tokenizer is not here" in strip.notes[0]


def test_without_an_update_there_are_log_probabilities_alone() -> None:
    strip = token_strip(to_trace(make_rollout()), 2, spell=None)
    assert strip is not None
    assert [measure.key for measure in strip.measures] == ["logprob"]
    assert token_strip(to_trace(make_rollout()), 4, spell=None) is None


@pytest.mark.parametrize(("p", "level"), [(1.0, 0), (0.99, 0), (0.9, 1), (0.3, 3), (0.011, 5), (0.001, 6), (1e-300, 6)])
def test_the_level_of_a_probability(p: float, level: int) -> None:
    assert level_of("logprob", math.log(p) + 1e-12, 1.0) == level


@pytest.mark.parametrize(("number", "level"), [(-7.0, 0), (-4.0, 1), (-2.0, 2), (0.0, 3), (2.0, 4), (4.0, 5), (7.0, 6)])
def test_the_level_of_a_number_with_a_sign(number: float, level: int) -> None:
    assert level_of("advantage", number, 7.0) == level


def test_a_long_turn_comes_in_parts() -> None:
    trace = to_trace(make_rollout(tools=(), tokens=MAX_TOKENS + 5))
    first = token_strip(trace, 1, spell=None)
    assert first is not None
    assert (len(first.tokens), first.total, first.next_first) == (MAX_TOKENS, MAX_TOKENS + 5, MAX_TOKENS)
    rest = token_strip(trace, 1, first=MAX_TOKENS, spell=None)
    assert rest is not None
    assert (len(rest.tokens), rest.next_first) == (5, None)


def test_the_runs_tokenizer_spells_them(tmp_path: Path) -> None:
    assert spelling(tmp_path) is None
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"workflow": {"baseline": str(BASELINE)}}))
    spell = spelling(tmp_path)
    assert spell is not None
    token_ids = (2948, 483, 2949, 461, 2950, 292, 499, 2951, 2943)
    call = '<tool_call>{"name": "search", "arguments": {"query": "beacon steel"}}</tool_call>'
    rollout = make_rollout(tools=(), tokens=9, answer=call)
    turn = replace(rollout.turns[0], token_ids=token_ids)
    strip = token_strip(to_trace(replace(rollout, turns=(turn,))), 1, spell=spell)
    assert strip is not None
    assert "".join(token.text for token in strip.tokens) == f"{call}<|end|>"
    assert strip.notes == ()
    other = token_strip(to_trace(make_rollout(tools=(), answer="something else")), 1, spell=spell)
    assert other is not None
    assert "do not spell the turn" in other.notes[0]
    assert spell([10**9, 483])[0] is None  # beyond the vocabulary


@pytest.mark.parametrize(
    "turn",
    [
        {},
        {"token_ids": None},
        {"token_ids": ["x", 3], "engine_logprobs": [None, "y", 1]},
        {"token_ids": [1], "engine_logprobs": [math.nan]},
        {"unseen_tokens": 7},
    ],
)
def test_damaged_tokens_are_shown_as_far_as_they_go(turn: dict[str, object]) -> None:
    strip = token_strip({"turns": [turn]}, 1, spell=None)
    assert strip is not None
    if not strip.tokens:
        assert any("recorded" in note or "told none" in note for note in strip.notes)


@pytest.mark.parametrize(
    "config", ["", "workflow: 3", "[", "workflow: {baseline: 3}", "workflow: {baseline: /nowhere}"]
)
def test_a_run_without_a_usable_config_has_no_tokenizer(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.yaml").write_text(config)
    assert spelling(tmp_path) is None
