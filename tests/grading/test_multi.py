"""Parts and a formula: all or nothing, except for what was declared optional, and then it is said."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import ValidationError

from agentrl.config import GradingConfig
from agentrl.config.graders import MultiConfig
from agentrl.grading import Submission, build_declared, build_grader
from agentrl.grading.grader import ungraded
from agentrl.grading.multi import MultiGrader
from agentrl.types import Grade

SUBMISSION = Submission.of_text("42", {})


def part(**fields: Any) -> dict[str, Any]:
    return {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "42", "operation": "eq", **fields}


def config(formula: str, *names: str, **fields: Any) -> MultiConfig:
    return MultiConfig(type="multi", graders={name: part() for name in names}, calculate_output=formula, **fields)


@dataclass
class Scripted:
    """A part that says what it was told to."""

    verdict: Grade
    version: str = "v1"
    is_closed: bool = False

    async def grade(self, submission: Submission) -> Grade:
        del submission
        return self.verdict

    async def aclose(self) -> None:
        self.is_closed = True


def grade(formula: str, optional: tuple[str, ...] = (), /, **grades: Grade | float) -> Grade:
    parts = {name: Scripted(Grade(each) if isinstance(each, float | int) else each) for name, each in grades.items()}
    return asyncio.run(MultiGrader(config(formula, *grades, optional=optional), parts).grade(SUBMISSION))


def test_the_formula_makes_the_score_and_the_parts_stay_visible() -> None:
    found = grade("0.7*correct + 0.3*style", correct=1, style=0.5)
    assert found.score == pytest.approx(0.85)
    assert found.sub_scores == {"correct": 1, "style": 0.5}
    assert (found.errors, found.reason) == ((), "")


def test_parts_costs_tokens_explanations_and_flags_are_put_together() -> None:
    judge = Grade(
        1.0,
        explanation="well said",
        cost_usd=0.25,
        tokens={"judge-1": {"prompt": 10, "completion": 2}},
        sub_scores={"tone": 0.5},
    )
    parse = replace(judge, explanation="no JSON", errors=("sample_parse_error",))
    found = grade("a*b*c", a=judge, b=parse, c=1.0)
    assert found.cost_usd == 0.5
    assert found.tokens == {"judge-1": {"prompt": 20, "completion": 4}}
    assert found.explanation == "a: well said; b: no JSON"
    assert found.errors == ("sample_parse_error",)
    assert found.sub_scores == {"a": 1, "a.tone": 0.5, "b": 1, "b.tone": 0.5, "c": 1}


def test_f17_a_part_without_a_score_leaves_all_without_one() -> None:
    down = replace(ungraded("the judge is down", "model_grader_server_error"), cost_usd=0.5)
    found = grade("0.9*a + 0.1*b", a=1.0, b=down)
    assert (found.score, found.reason, found.errors) == (None, "b: the judge is down", ("model_grader_server_error",))
    assert (found.sub_scores, found.cost_usd) == ({"a": 1}, 0.5)


def test_f17_an_optional_part_gives_its_weight_to_the_others_and_the_grade_says_so() -> None:
    down = ungraded("the judge is down", "model_grader_server_error")
    found = grade("0.5*a + 0.3*b + 0.2*c", ("c",), a=1, b=0.5, c=down)
    assert found.score == pytest.approx((0.5 + 0.15) / 0.8)
    assert found.explanation == "graded without c, weights renormalised (c: the judge is down)"
    assert found.errors == ("model_grader_server_error",)
    assert grade("0.5*a + 0.5*b", ("b",), a=1, b=Grade(None, "gone")).errors == ("other_error",)
    assert grade("0.5*a + 0.3*b + 0.2*c", ("c",), a=1, b=down, c=1).score is None
    assert grade("0.5*a + 0.5*b", ("a", "b"), a=down, b=down).score is None
    assert grade("0.5*a + 0.5*b", ("b",), a=1, b=0).score == 0.5


def test_weights_are_renormalised_on_the_scale_of_each_part() -> None:
    graders = {"exact": part(), "judge": {"type": "score_model", "model": "m", "input": [], "range": [0, 10]}}
    graders["judge"]["input"] = [{"role": "user", "content": "{{ sample.output_text }}"}]
    graders["judge"]["judge"] = {"base_url": "http://127.0.0.1:1/v1"}
    both = MultiConfig(type="multi", graders=graders, calculate_output="0.5*exact + 0.05*judge", optional=("judge",))
    assert both.weights == {"exact": 0.5, "judge": 0.5}
    assert (both.least_score, both.best_score) == (0.0, 1.0)
    parts = {"exact": Scripted(Grade(1.0)), "judge": Scripted(ungraded("down", "model_grader_server_error"))}
    assert asyncio.run(MultiGrader(both, parts).grade(SUBMISSION)).score == 1.0


@pytest.mark.parametrize("formula", ["a / b", "log(b)", "a ^ 5000 * 10^308 * 100", "sqrt(b - a)"])
def test_a_formula_without_a_value_is_no_score(formula: str) -> None:
    found = grade(formula, a=1.0, b=0.0)
    assert (found.score, found.errors) == (None, ("formula_parse_error",))
    assert found.reason.startswith(f"calculate_output '{formula}': ")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_part_that_is_no_number_is_no_score(score: float) -> None:
    found = grade("a", a=Grade(score))
    assert (found.score, found.sub_scores) == (None, {})
    assert "a: found score" in found.reason


def test_a_part_that_the_formula_does_not_name_is_watched_and_weighs_nothing() -> None:
    watched = config("a", "a", "b")
    assert watched.unused == ("b",)
    assert grade("a", a=1, b=0.5).sub_scores == {"a": 1, "b": 0.5}
    assert grade("a", a=1, b=ungraded("down", "other_error")).score == 1


def test_a_value_out_of_range_is_the_formulas_fault() -> None:
    multi = {"type": "multi", "graders": {"a": part()}, "calculate_output": "3*a", "max_score": 2.0}
    found = asyncio.run(build_grader(GradingConfig.model_validate(multi)).grade_submission(SUBMISSION))
    assert (found.score, found.errors, found.sub_scores) == (None, ("formula_parse_error",), {"a": 1.0})
    assert found.reason == "grader multi: found score 3.0; allowed: 0 to 2 (grading.min_score and max_score)"


def test_sums_of_decimal_weights_are_not_beyond_one() -> None:
    names = [f"p{index}" for index in range(10)]
    for weights in ((0.1,) * 10, (0.7, 0.2, 0.1), (0.6, 0.3, 0.1), (0.15, 0.35, 0.3, 0.2), (1.1, -0.1)):
        used = names[: len(weights)]
        formula = " + ".join(f"{weight}*{name}" for weight, name in zip(weights, used, strict=True))
        assert grade(formula, **dict.fromkeys(used, 1.0)).score == 1.0


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"calculate_output": "a + c"}, "calculate_output: found 'c', which is no part; allowed: a, b"),
        ({"calculate_output": "a + "}, "calculate_output: found the end of the formula"),
        ({"calculate_output": "sqrt(a, b)"}, "calculate_output: found sqrt of 2; allowed: 1"),
        ({"optional": ("c",)}, r"optional\[0\]: found 'c', which is no part"),
        ({"calculate_output": "a * b", "optional": ("b",)}, "optional: found parts that may fail under the formula"),
        ({"calculate_output": "a + b + 1", "optional": ("b",)}, "optional: found parts that may fail"),
        ({"calculate_output": "a - b", "optional": ("b",)}, "optional: found parts that may fail"),
        ({"graders": {"a-b": part()}, "calculate_output": "1"}, r"graders.a-b: found the name 'a-b'; allowed: letters"),
        ({"graders": {}}, "at least 1"),
        ({"graders": {"a": part(input="{{ x }}")}, "calculate_output": "a"}, "found '{{ x }}'"),
    ],
)
def test_mistakes_are_found_when_the_config_is_read(fields: dict[str, Any], complaint: str) -> None:
    whole: dict[str, Any] = {"graders": {"a": part(), "b": part()}, "calculate_output": "a + b", **fields}
    with pytest.raises(ValidationError, match=complaint):
        MultiConfig(type="multi", **whole)


def test_a_multi_inside_a_multi_is_refused() -> None:
    inner = {"type": "multi", "graders": {"a": part()}, "calculate_output": "a"}
    with pytest.raises(ValidationError, match="found multi; allowed: every other kind, as a multi holds no multi"):
        MultiConfig(type="multi", graders={"a": inner}, calculate_output="a")


def test_graders_may_be_a_mapping_a_list_or_one() -> None:
    mapping = MultiConfig(type="multi", graders={"a": part()}, calculate_output="a")
    listed = MultiConfig(type="multi", graders=[part(name="a")], calculate_output="a")
    single = MultiConfig(type="multi", graders=part(name="a"), calculate_output="a")
    for each in (mapping, listed, single):
        assert list(each.graders) == ["a"]
        assert asyncio.run(build_declared(each).grade(SUBMISSION)).score == 1.0
    with pytest.raises(ValidationError, match=r"\[0\].name: missing; allowed: a name of its own"):
        MultiConfig(type="multi", graders=[part(), part(name="a")], calculate_output="a")
    with pytest.raises(ValidationError, match=r"\[1\].name: found 'a' a second time"):
        MultiConfig(type="multi", graders=[part(name="a"), part(name="a")], calculate_output="a")
    with pytest.raises(ValidationError, match="name: missing"):
        MultiConfig(type="multi", graders=part(), calculate_output="a")


def test_the_version_covers_the_formula_and_what_the_parts_tell() -> None:
    def version(formula: str = "a + b", told: str = "", of_b: str = "v1") -> tuple[str, str]:
        parts = {"a": Scripted(Grade(1.0, version=told)), "b": Scripted(Grade(1.0), version=of_b)}
        grader = MultiGrader(config(formula, "a", "b"), parts)
        return grader.version, asyncio.run(grader.grade(SUBMISSION)).version

    assert version() == version()
    assert version()[0] == version()[1] == version(told="v1")[1]
    assert len({version(), version("a - b"), version(of_b="v2"), version(told="v1 rubric_version=2")}) == 4


def test_closing_closes_every_part() -> None:
    parts = {"a": Scripted(Grade(1.0)), "b": Scripted(Grade(1.0))}
    asyncio.run(MultiGrader(config("a", "a", "b"), parts).aclose())
    assert all(each.is_closed for each in parts.values())
