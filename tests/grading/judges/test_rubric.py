"""Criteria, their weights, and the ones that gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrl.endpoint import endpoint
from agentrl.errors import ConfigError
from agentrl.grading.judges.rubric import read_rubric
from agentrl.grading.submission import Submission
from tests.scripted_judge import ScriptedJudge, completion, grade_all, grade_text

CRITERIA: list[dict[str, Any]] = [
    {"id": "right", "text": "The number is right.", "weight": 3.0},
    {"id": "sourced", "text": "It names its source.", "type": "ordinal", "anchors": ["no", "vaguely", "the page"]},
    {"id": "safe", "text": "It gives no advice to buy.", "weight": 0.5, "required": True},
]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)


def levels(**given: Any) -> Any:
    return completion({id_: {"reason": f"because of {id_}", "level": level} for id_, level in given.items()})


def grade(*replies: Any, **fields: Any) -> Any:
    rubric = {"criteria": CRITERIA} if "rubric" not in fields else {}
    return grade_text(ScriptedJudge(*replies), type="rubric", **rubric, **fields)


@pytest.mark.parametrize(
    ("given", "score"),
    [
        ((1, 2, 1), 1.0),
        ((0, 0, 1), 0.5 / 4.5),
        ((1, 1, 1), (3 + 0.5 + 0.5) / 4.5),
        ((0, 2, 1), 1.5 / 4.5),
    ],
)
def test_the_score_is_the_weighted_mean_of_the_criteria(given: tuple[int, int, int], score: float) -> None:
    right, sourced, safe = given
    found = grade(levels(right=right, sourced=sourced, safe=safe))
    assert found.score == pytest.approx(score)
    assert found.sub_scores == {"right": right, "sourced": sourced / 2, "safe": safe}
    assert f"sourced {sourced / 2:g}: because of sourced" in found.explanation


def test_a_required_criterion_that_is_not_met_gates_the_score() -> None:
    found = grade(levels(right=1, sourced=2, safe=0))
    assert found.score == 0.0
    assert found.sub_scores == {"right": 1.0, "sourced": 1.0, "safe": 0.0}
    assert found.explanation.startswith("Not met, though required: safe;")


@pytest.mark.parametrize(("met_from", "score"), [(1.0, 0.0), (0.5, 0.5)])
def test_a_required_criterion_of_levels_says_from_where_it_is_met(met_from: float, score: float) -> None:
    criterion = {**CRITERIA[1], "required": True, "met_from": met_from}
    judge = ScriptedJudge(levels(sourced=1))
    assert grade_text(judge, type="rubric", criteria=[criterion]).score == score


@pytest.mark.parametrize(
    "reply",
    [
        levels(right=1, sourced=2),
        levels(right=1, sourced=3, safe=1),
        levels(right=1, sourced=-1, safe=1),
        levels(right=True, sourced=1, safe=1),
        levels(right="1", sourced=1, safe=1),
        levels(right=0.5, sourced=1, safe=1),
        completion({"right": 1, "sourced": 1, "safe": 1}),
        completion({"result": 1.0}),
    ],
)
def test_a_criterion_that_is_not_judged_leaves_the_whole_ungraded(reply: Any) -> None:
    found = grade(reply)
    assert (found.score, found.sub_scores, found.errors) == (None, {}, ("model_grader_parse_error",))


def test_the_judge_is_told_each_criterion_and_its_levels_before_the_answer() -> None:
    judge = ScriptedJudge(levels(right=1, sourced=1, safe=1))
    grade_text(judge, type="rubric", criteria=CRITERIA)
    system, user = judge.bodies[0]["messages"]
    assert system["role"] == "system"
    assert "sourced: It names its source.\n  0: no\n  1: vaguely\n  2: the page" in system["content"]
    assert "right: The number is right.\n  0: not met\n  1: met" in system["content"]
    assert user["content"].startswith("Reference: 42")


def test_without_messages_the_judge_is_shown_the_task_and_the_answer() -> None:
    judge = ScriptedJudge(levels(right=1, sourced=1, safe=1))
    task = {"messages": [{"role": "user", "content": "How much?"}]}
    (found,) = grade_all(judge, [Submission.of_text("42", task)], type="rubric", criteria=CRITERIA, input=[])
    assert found.score is not None
    assert 'The task:\n[{"role":"user","content":"How much?"}]\n\nThe answer:\n' in judge.asked


def test_criteria_may_be_asked_one_by_one() -> None:
    def say(body: dict[str, Any]) -> Any:
        (id_,) = body["response_format"]["json_schema"]["schema"]["required"]
        others = {each["id"] for each in CRITERIA} - {id_}
        assert not any(f"{other}:" in body["messages"][0]["content"] for other in others)
        return {**levels(**{id_: 1}), "usage": {"prompt_tokens": 10, "completion_tokens": 1}}

    judge = ScriptedJudge(say=say)
    found = grade_text(judge, type="rubric", criteria=CRITERIA, ask="each")
    assert found.sub_scores == {"right": 1.0, "sourced": 0.5, "safe": 1.0}
    assert found.tokens["judge"]["prompt"] == 30
    assert len(judge.requests) == 3


def test_one_criterion_that_fails_is_no_partial_score() -> None:
    def say(body: dict[str, Any]) -> Any:
        (id_,) = body["response_format"]["json_schema"]["schema"]["required"]
        return httpx.Response(400, text="no") if id_ == "safe" else levels(**{id_: 1})

    found = grade_text(ScriptedJudge(say=say), type="rubric", criteria=CRITERIA, ask="each")
    assert (found.score, found.errors) == (None, ("model_grader_server_error",))


def rubric_file(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


RUBRIC = """version: "3"
criteria:
- id: right
  text: The number is right.
"""


def test_a_rubric_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    path = rubric_file(tmp_path / "rubric.yaml", RUBRIC)
    found = grade(levels(right=1), rubric=path)
    assert found.score == 1.0
    assert found.version.endswith("rubric_version=3")
    rubric_file(tmp_path / "rubric.yaml", RUBRIC.replace("right.", "right, to the digit."))
    assert grade(levels(right=1), rubric=path).version != found.version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUBRIC.replace("text", "txt"), r"rubric.yaml:4: criteria\[0\].txt: unknown key; did you mean 'text'"),
        (RUBRIC + "- id: right\n  text: again\n", r"rubric.yaml:5: criteria\[1\].id: found 'right' a second time"),
        (RUBRIC + "  weight: heavy\n", r"rubric.yaml:5: criteria\[0\].weight: found the text 'heavy'"),
        (RUBRIC + "  type: ordinal\n", r"criteria\[0\].anchors: found 0; allowed: at least two"),
        (RUBRIC + "  weight: 1.0\n  weight: 2.0\n", r"rubric.yaml:6: .*key written twice"),
        ('version: "1"\n', r"criteria: found none"),
        ("- id: right\n", r"rubric.yaml:1: found a list; allowed: a mapping that starts with `criteria:`"),
        ("", "found an empty file"),
    ],
)
def test_a_mistake_in_a_rubrics_file_is_shown_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_rubric(rubric_file(tmp_path / "rubric.yaml", text))


def test_a_missing_rubric_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        grade(levels(right=1), rubric=str(tmp_path / "rubric.yaml"))
