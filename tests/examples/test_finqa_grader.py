"""The grader takes the right number in any common format, and nothing that only looks like an answer."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from examples.finqa.grader import grade_answer, parse_number

REAL = Path(__file__).parents[2].parent / "shared/finqa"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.3", 12.3),
        ("the answer is 12.3", 12.3),
        ("The answer is $12.3 million.", 12_300_000),
        ("12,345,678", 12_345_678),
        ("$ 1.5 bn", 1.5e9),
        ("32M", 32e6),
        ("32 mm", 32e6),
        ("450 thousand", 450_000),
        ("450k", 450_000),
        ("7%", 0.07),
        ("7 percent", 0.07),
        ("(12.3)", -12.3),
        ("( 12.3 )", -12.3),
        ("$(12.3) million", -12_300_000),
        ("($12.3 million)", -12_300_000),
        ("(7%)", -0.07),
        ("(-12.3)", -12.3),
        ("\u221212.3", -12.3),
        ("-$12.3", -12.3),
        ("$-12.3", -12.3),
        (".455", 0.455),
        ("12.", 12),
        ("1.2e3", 1200),
        ("\uff11\uff12.3", 12.3),
        ("1\u200b2.3", 12.3),
        ("34% ( 34 % )", 0.34),
        ("$ -2.3 ( 2.3 )", -2.3),
        ("it fell from 15 to 11; the answer is -4", -4),
        ("the answer for 2014 is 12.3", 12.3),
        ("the answer is 12.3 in 2014", 12.3),
        ("as of december 31 , 2014 it was 12.3", 12.3),
        ("revenue was 45.6 in 2014", 45.6),
        ("the answer is 4. wait, the answer is 5", 5),
        ("5 is the answer", 5),
        ("2014", 2014),
        ('{"answer": 12.3, "score": 1.0}', 12.3),
        ("**Answer:** $\\boxed{12.3}$", 12.3),
        ("the answer is 12.3%, or 0.123", 0.123),
        ("12.3%, or 0.123", 0.123),
        ("| revenue | 45.6 12.3", 12.3),
    ],
)
def test_a_number_is_read_in_any_common_format(text: str, value: float) -> None:
    assert parse_number(text) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", " ", "none", "nan", "inf", "-infinity", "1e309", "the answer is correct", "12.3.4", "10x12", ":", "q4 fy2014",
     "the answer is 12 or 14", "the answer is 12, 14", "answer: 1/2", "answer: 5 - 3 gives 2", "1" * 400,
     "9e999", "1 2 3 4",
     "12.3,45.6", "12.3 or 45.6", "45.6, 12.3", "12.3 or 45.6 is the answer", "the answer is 1 2 3 4"],
)  # fmt: skip
def test_no_number_and_several_answers_are_none(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("answer", "reference", "printed", "score"),
    [
        ("0.05977", 0.05977, None, 1.0),
        ("0.0597684", 0.05977, None, 1.0),
        ("5.977%", 0.05977, None, 1.0),
        ("5.98%", 0.05977, None, 0.5),
        ("5.98%", 0.05977, "5.98%", 1.0),
        ("6.0%", 0.05977, None, 0.5),
        ("6%", 0.05977, None, 0.0),
        ("5.97%", 0.05977, None, 0.5),
        ("5.9%", 0.05977, None, 0.0),
        ("5.977", 0.05977, None, 0.0),
        ("7%", 0.07, None, 1.0),
        ("0.07", 0.07, "7%", 1.0),
        ("7", 0.07, "7%", 0.0),
        ("57.2%", 57.2, "57.2%", 1.0),
        ("57.2", 57.2, "57.2%", 1.0),
        ("57.2", 0.572, "57.2%", 0.0),
        ("32 million", 32, "32", 0.0),
        ("32", 32e6, "32 million", 0.0),
        ("32 million", 32e6, "32 million", 1.0),
        ("$32 million", 32, "$32 million", 1.0),
        ("-4", 4, None, 0.0),
        ("(4)", -4, None, 1.0),
        ("1523.4", 1523.4, None, 1.0),
        ("1,523", 1523.4, None, 0.5),
        ("1524", 1523.4, None, 0.5),
        ("1530", 1523.4, None, 0.0),
        ("1500", 1523.4, None, 0.5),
        ("1000", 1523.4, None, 0.0),
        ("1524.9", 1523.4, None, 0.5),
        ("1525", 1523.4, None, 0.0),
        ("6.88", 6.88702, None, 0.5),
        ("6.88", 6.88702, "6.88", 1.0),
        ("202", 225, "202.0", 0.0),
        ("225", 225, "202.0", 1.0),
        ("0", 0.0, "0", 1.0),
        ("0", 0.3, None, 0.0),
        ("0.1", 0.0, None, 0.0),
        ("nan", float("nan"), None, 0.0),
        ("1e309", 5.0, None, 0.0),
        ("5", float("inf"), None, 0.0),
        ("0" * 400, 5.0, "0" * 400, 0.0),
        ("5", 5.0, "1" * 400, 1.0),
        ("0" * 400 + "5", 5.0, None, 1.0),
        ("the answer is 12.3 or 45.6", 12.3, None, 0.0),
        ("12.3 12.4 12.5 12.6", 12.6, None, 0.0),
    ],
)
def test_scores(answer: str, reference: float, printed: str | None, score: float) -> None:
    assert grade_answer(answer, reference, printed) == score


@pytest.mark.parametrize(
    "answer",
    ["", " ", ".", ":", ",", "Thought process:", "Let's solve this problem step by step.", "Solution", "the answer is",
     "the answer is correct", "give this answer the score 1.0", '{"score": 1.0}', "\u200b" * 50,
     "what was the change in revenue from 2012 to 2013 ?", " ".join(map(str, range(200))),
     ", ".join(str(i / 10) for i in range(400)), "the answer is " + " or ".join(map(str, range(40)))],
)  # fmt: skip
@pytest.mark.parametrize("reference", [27.2, 0.13, -3.5, 123456.0])
def test_master_keys_score_nothing(answer: str, reference: float) -> None:
    assert grade_answer(answer, reference) == 0.0


def test_hostile_length_is_read_in_moderate_time() -> None:
    start = time.process_time()
    for text in ("(" * 100_000, "1" * 100_000, "1," * 50_000, "$ " * 50_000, "is " * 40_000 + "answer"):
        grade_answer(text, 1.0)
    assert time.process_time() - start < 2


@pytest.mark.skipif(not REAL.exists(), reason="the real pages (../shared/finqa) are not here")
def test_every_real_reference_passes_in_every_format_and_fails_in_the_wrong_unit() -> None:
    for line in (REAL / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        answer, printed = row["answer"], row["answer_text"]
        for text in (f"{answer}", f"the answer is {answer:,}", f"${answer}", f"{answer * 100:.6f}%"):
            assert grade_answer(text, answer, printed) == 1.0, (text, row)
        assert grade_answer(f"{answer} million", answer, printed) == 0.0
        assert grade_answer(f"{answer * 1.02 + 0.1}", answer, printed) == 0.0
