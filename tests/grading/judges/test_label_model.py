"""A judge's label: to the letter one of those that there are."""

from __future__ import annotations

import pytest

from tests.scripted_judge import ScriptedJudge, completion, grade_text

LABELS = {"type": "label_model", "labels": ["good", "fair", "bad"], "passing_labels": ["good", "fair"]}


@pytest.mark.parametrize(("label", "score"), [("good", 1.0), ("fair", 1.0), ("bad", 0.0)])
def test_a_passing_label_scores_1_and_another_0(label: str, score: float) -> None:
    judge = ScriptedJudge(completion({"steps": [], "result": label}))
    grade = grade_text(judge, **LABELS)
    assert (grade.score, grade.explanation) == (score, f"Label: {label}")
    schema = judge.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"]["enum"] == LABELS["labels"]


@pytest.mark.parametrize("label", ["Good", "good ", "goodbad", "", None, 1, True, ["good"], {"good": 1}])
def test_another_label_is_no_verdict(label: object) -> None:
    grade = grade_text(ScriptedJudge(completion({"steps": [], "result": label})), **LABELS)
    assert (grade.score, grade.errors) == (None, ("model_grader_parse_error",))
