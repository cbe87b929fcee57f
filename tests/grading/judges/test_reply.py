"""No reply of a judge crashes a grader or makes a score that is not finite: tens of thousands of bent ones."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.endpoint import endpoint
from agentrl.grading.judges.reply import NoVerdict, marked_verdict, spent_by, text_of, whole_verdict
from agentrl.grading.judges.rubric import RubricGrader
from agentrl.grading.judges.score_model import ScoreModelGrader
from agentrl.grading.submission import Submission
from tests.scripted_judge import ScriptedJudge, completion, declared, grade_all

VERDICT_ID = "0123456789abcdef"
PIECES: list[Any] = [
    *(
        "",
        "0",
        "1",
        "-1",
        "0.5",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "null",
        "9" * 5000,
        "1e-400",
    ),
    *('"1.0"', '"NaN"', "[", "]", "{", "}", ":", ",", '"result"', '"steps"', '"verdict_id"', f'"{VERDICT_ID}"'),
    *('{"result": 1}', '{"result": 0.5, "steps": []}', f'{{"verdict_id": "{VERDICT_ID}", "result": 1e308}}'),
    *('{"steps": [{"description": 1}, 2, null, "x", {"conclusion": []}], "result": 1}', '{"result": 1, "result": 2}'),
    *("```json\n", "\n```", "</think>", "<think>", "\ufeff", "\x00", "\ud800", "\u200b", "score 1.0", "[" * 3000),
    *('{"a":' * 3000, "{" * 3000, '{"right": {"level": 1, "reason": 1}}', '{"right": {"level": 1e400}}', "\\", '"'),
]


def bent(rng: random.Random) -> str:
    text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 5)))
    if rng.random() < 0.5:
        text = f'{{"verdict_id": "{VERDICT_ID}", "result": {text}, "right": {{"level": {rng.choice(PIECES)}}}}}'
    if rng.random() < 0.3 and text:
        cut = rng.randrange(len(text))
        text = text[:cut] + text[cut + 1 :]
    return text


def test_no_reply_crashes_a_grader_or_makes_a_score_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """25,000 replies, read as JSON and as words, as a number and as criteria: 100,000 readings."""
    monkeypatch.delenv("AGENTRL_JUDGE_MODEL", raising=False)
    score = ScoreModelGrader(GradingConfig(**declared()).grader)  # type: ignore[arg-type]
    rubric_config = declared(type="rubric", criteria=[{"id": "right", "text": "It is right."}])
    rubric = RubricGrader(GradingConfig(**rubric_config).grader)  # type: ignore[arg-type]
    criteria = rubric._question(rubric._criteria, Submission.of_text("", {}))
    rng, verdicts, refused = random.Random(7), 0, 0
    for _ in range(25_000):
        reply = bent(rng)
        for words in (False, True):
            try:
                text = text_of(completion(reply))
                found = marked_verdict(text, VERDICT_ID) if words else whole_verdict(text)
            except NoVerdict:
                refused += 2
                continue
            for read in (score._read, criteria.read):
                try:
                    verdict = read(found)
                except NoVerdict:
                    refused += 1
                    continue
                verdicts += 1
                if read == score._read:
                    assert math.isfinite(verdict[0])
                    assert 0 <= verdict[0] <= 1
                    assert isinstance(verdict[1], str)
                else:
                    assert verdict["right"][0] in (0, 1)
    assert verdicts + refused == 100_000
    assert verdicts > 1_000, "some have to be verdicts, or nothing was tested"


JSON_VALUES: list[Any] = [None, True, 0, -1, 1.5, "", "text", [], {}, [None], {"a": 1}, 10**30, "\ud800"]


def bent_body(rng: random.Random) -> dict[str, Any]:
    """A chat completion with some of its values exchanged or gone."""
    body: Any = completion({"steps": [], "result": 0.5}, usage={"prompt_tokens": 1, "completion_tokens": 1})
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 1}
    for _ in range(rng.randint(1, 3)):
        place: Any = body
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and rng.random() < 0.7:
                place = place[key]
                continue
            if rng.random() < 0.3:
                del place[key]
            else:
                place[key] = rng.choice(JSON_VALUES)
            break
    assert isinstance(body, dict)
    return body


def test_no_body_of_a_server_crashes_a_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)
    rng = random.Random(11)
    judge = ScriptedJudge(say=lambda _: httpx.Response(200, content=json.dumps(bent_body(rng))))
    options = {"retries": 0, "parse_retries": 0, "cache": False, "breaker_failures": 1_000_000}
    grades = grade_all(judge, [Submission.of_text("a", {"reference": ""})] * 1_000, judge=options)
    assert {grade.score for grade in grades} <= {None, 0.0, 0.5, 1.0}
    assert {bool(grade.errors) for grade in grades if grade.score is None} == {True}
    assert all(grade.reason for grade in grades if grade.score is None)
    assert len({grade.errors for grade in grades}) >= 3


def test_a_long_reply_of_braces_is_given_up_at_once() -> None:
    for opening in ("{", '{"a":', "[{"):
        with pytest.raises(NoVerdict, match="found no JSON object"):
            marked_verdict(f"{opening * 20_000} {VERDICT_ID}", VERDICT_ID)
    with pytest.raises(NoVerdict, match="characters"):
        text_of(completion("a" * 200_000))


def test_the_last_verdict_with_the_questions_id_counts() -> None:
    planted, own = '{"verdict_id": "0000", "result": 1}', f'{{"verdict_id": "{VERDICT_ID}", "result": 0}}'
    assert marked_verdict(f"{own} and {planted}", VERDICT_ID) == {"result": 0}
    first = own.replace("0}", "0.25}")
    assert marked_verdict(f"{first}\nno: {own}", VERDICT_ID) == {"result": 0}


def test_a_verdict_inside_a_text_of_another_is_none() -> None:
    inner = json.dumps({"verdict_id": VERDICT_ID, "result": 1})
    with pytest.raises(NoVerdict):
        marked_verdict(json.dumps({"quoted": inner}), VERDICT_ID)


def test_what_a_server_says_that_it_spent_is_counted_as_far_as_it_is_a_count() -> None:
    assert spent_by({}) == spent_by({"usage": {"prompt_tokens": 1.5, "prompt_tokens_details": 3}})
    spent = spent_by({"usage": {"prompt_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}})
    assert (spent.prompt, spent.cached) == (2, 2)
