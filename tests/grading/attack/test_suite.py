"""Weak graders are found out and their survivors named, strong ones kill all, and an absent one is no result."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.config.graders import MultiConfig, PolicyCheckConfig, ToolUseConfig
from agentrl.grading import build_declared
from agentrl.grading.attack import Limits, SuiteOptions, attack
from agentrl.grading.attack.cases import CASES
from agentrl.grading.attack.episode import submission_of
from agentrl.grading.attack.report import GraderReport, Outcome
from agentrl.grading.attack.suite import SCRATCHES
from tests.grading.attack.weak import any_length, number_anywhere, perfect, rows, run
from tests.scripted_judge import QUESTION, ScriptedJudge, completion

NUMERIC = {"name": "numeric", "type": "numeric"}


def only_report(*args: Any, **kwargs: Any) -> GraderReport:
    (report,) = run(*args, **kwargs).graders
    return report


def test_the_shipped_numeric_grader_kills_all() -> None:
    result = run(grading=NUMERIC, on=rows(), repeats=2)
    (report,) = result.graders
    assert report.survivors == []
    assert report.mutation_score == 1.0
    assert report.killed > 1000
    assert (report.uneven, report.misordered, report.sigma) == ([], [], 0.0)
    assert (result.verdict, report.target.version[:7]) == ("good", "sha256:")


def test_the_grader_of_the_finqa_example_kills_all() -> None:
    report = only_report(perfect, on=rows(6), repeats=2)
    assert (report.verdict, report.mutation_score, report.survivors) == ("good", 1.0, [])


def test_a_weak_regular_expression_is_found_out_by_name() -> None:
    report = only_report(number_anywhere, only=tuple(case.name for case in CASES))
    assert report.verdict == "failed"
    assert report.mutation_score is not None
    assert report.mutation_score < 0.9
    assert {each.case for each in report.survivors} == {"all_candidates", "number_range", "wrong_unit", "contradiction"}
    contradicted = [each for each in report.survivors if each.case == "contradiction"]
    assert {each.score for each in contradicted} == {1.0}
    assert any("No, that is wrong" in each.text for each in contradicted)


def test_a_string_check_that_asks_whether_the_answer_occurs_is_found_out() -> None:
    like = {"name": "like", "type": "string_check", "operation": "like",
            "input": "{{ sample.output_text }}", "reference": "{{ item.answer_text }}"}  # fmt: skip
    report = only_report(grading=like)
    assert report.verdict == "failed"
    assert {"all_candidates", "contradiction"} <= {each.case for each in report.survivors}


def test_a_grader_of_length_pays_for_everything_that_is_long() -> None:
    report = only_report(any_length)
    assert {"judge_instruction", "opener", "long", "question_echo", "padding"} <= {
        each.case for each in report.survivors
    }
    assert report.misordered != []


def test_percent_and_fraction_are_one_number_and_units_are_not_ignored() -> None:
    """For references such as FinQA's: 31.547 % for 0.31547 passes both ways, 32 million for 32 does not."""
    report = only_report(grading=NUMERIC, on=rows(), only=("percent", "wrong_unit"), repeats=0)
    forms = [each for each in report.of("change") if each.case == "percent"]
    assert {"0.31547", "31.547%", "31.547 percent"} <= {each.text for each in forms}
    assert {each.score for each in forms} == {1.0}
    units = {each.text: each.score for each in report.of("attack")}
    assert (units["389.1 million"], units["31.547"]) == (0.0, 0.0)


def test_a_grader_that_ignores_percent_signs_is_uneven() -> None:
    report = only_report(number_anywhere, on=rows(), only=("percent",))
    assert report.uneven
    assert all(change == "percent" for change, _ in report.uneven)
    assert report.verdict == "failed"


def test_a_grader_that_flaps_is_noisy() -> None:
    flips = itertools.cycle([1.0, 0.0])
    report = only_report(lambda *_: next(flips), only=("noise",), repeats=4, at_once=1)
    assert report.sigma == pytest.approx(0.5)
    assert (report.is_noisy, report.verdict) == (True, "failed")
    steady = only_report(perfect, only=("noise",), repeats=4)
    assert (steady.sigma, steady.is_noisy, steady.verdict) == (0.0, False, "good")


def test_a_grader_that_cannot_be_asked_is_no_result_and_is_not_asked_for_long() -> None:
    asked = []

    def broken(answer: str, item: dict[str, Any]) -> float:
        asked.append(answer)
        raise RuntimeError("no disk")

    result = run(broken, on=rows(4), only=("empty", "long", "sanity", "noise"))
    (report,) = result.graders
    assert (result.verdict, report.mutation_score, report.attacks) == ("inconclusive", None, [])
    assert len(report.unasked) > 50
    assert "no disk" in report.unasked[0].reason
    assert len(asked) == 3 * 2  # three right answers, each sent twice


def test_a_hold_out_that_is_absent_leaves_the_others_their_results() -> None:
    grading = {**NUMERIC, "holdout": [{"name": "down", "url": "http://localhost/grade"}]}
    result = run(lambda *_: 1 / 0, grading=grading, on=rows(1), only=("empty", "contradiction"))
    assert {report.target.name: report.verdict for report in result.graders} == {
        "numeric": "good", "down": "inconclusive"}  # fmt: skip
    assert result.verdict == "inconclusive"


def test_an_answer_that_breaks_the_grader_does_not_pay_and_is_counted() -> None:
    def fragile(answer: str, item: dict[str, Any]) -> float:
        if "\0" in answer:
            raise ValueError("embedded null byte")
        return perfect(answer, item)

    report = only_report(fragile, on=rows(2), only=("null_bytes", "sanity"))
    assert [each.text for each in report.ungraded] == ["\0", "The answer is \0\0\0."] * 2
    assert "embedded null byte" in report.ungraded[0].reason
    assert (report.verdict, report.mutation_score) == ("good", 1.0)


def test_a_right_answer_that_gets_no_grade_in_another_form_is_uneven() -> None:
    def strict(answer: str, item: dict[str, Any]) -> float:
        return float(float(answer) == item["reference_answer"])

    report = only_report(strict, on=rows(1), only=("paraphrase",))
    assert [change for change, _ in report.uneven] == ["paraphrase"]


def test_each_part_and_each_hold_out_has_a_report_and_conduct_has_none() -> None:
    like = {"type": "string_check", "operation": "like", "input": "{{sample.output_text}}",
            "reference": "{{item.answer_text}}"}  # fmt: skip
    grading = {
        "name": "stack", "type": "multi", "calculate_output": "right * tools",
        "graders": {"right": {"type": "numeric"}, "weak": like,
                    "tools": {"type": "tool_use", "required": ["search", "cat"], "before": [["search", "cat"]]}},
        "holdout": [{"name": "second", "type": "numeric", "near_score": 0.0}],
    }  # fmt: skip
    result = run(grading=grading, repeats=2)
    roles = {report.target.name: (report.target.role, report.verdict) for report in result.graders}
    assert roles == {"stack": ("reward", "good"), "right": ("part", "good"), "weak": ("part", "failed"),
                     "second": ("holdout", "good")}  # fmt: skip
    assert [target.name for target in result.skipped] == ["tools"]
    assert result.verdict == "good"  # what the parts let through, the formula does not pay for


def test_a_weak_hold_out_fails_the_suite() -> None:
    like = {"name": "weak", "type": "string_check", "operation": "like", "input": "{{sample.output_text}}",
            "reference": "{{item.answer_text}}"}  # fmt: skip
    assert run(grading={**NUMERIC, "holdout": [like]}, repeats=0).verdict == "failed"


def test_a_sum_pays_for_good_manners_without_an_answer() -> None:
    parts = {"right": {"type": "numeric"}, "thrift": {"type": "efficiency", "calls": {"free": 3, "limit": 9}}}
    grading = {"name": "sum", "type": "multi", "graders": parts, "calculate_output": "0.6 * right + 0.4 * thrift"}
    reports = {report.target.name: report for report in run(grading=grading, only=("empty",)).graders}
    assert [each.score for each in reports["sum"].survivors] == pytest.approx([0.4] * 3)
    assert reports["right"].survivors == []


def test_conduct_around_an_attack_is_flawless() -> None:
    tools = ToolUseConfig(
        type="tool_use", required=("cat", "search"), before=(("search", "cat"), ("list", "search")), max_calls=3
    )
    safety = PolicyCheckConfig(type="policy_check", leaked_keys=("reference_answer",))
    row = rows()[0]
    for config in (tools, safety):
        submission = submission_of(row.text, row, [config])
        assert asyncio.run(build_declared(config).grade(submission)).score == 1.0
    stack = MultiConfig(type="multi", graders={"t": tools, "s": safety}, calculate_output="t * s")
    calls = submission_of("", row, [stack, tools, safety]).sample["output_tools"]
    assert [call["function"]["name"] for call in calls] == ["list", "search", "cat"]


def test_answers_of_a_policy_are_replayed_on_rows_they_were_not_given_to() -> None:
    texts = ["the figure is as stated, see above", "389.1"]
    report = only_report(any_length, on=rows(), replays=texts, only=("replay",))
    assert Counter(each.text for each in report.attacks) == {texts[0]: 12, texts[1]: 11}
    assert {each.text for each in report.survivors} == {texts[0]}


@pytest.mark.parametrize(
    "grading",
    [
        {"type": "string_check", "operation": "eq", "input": "{{sample.output_text}}",
         "reference": "{{item.answer_text}}"},
        {"type": "text_similarity", "evaluation_metric": "rouge_l", "input": "{{sample.output_text}}",
         "reference": "{{item.answer_text}}"},
        NUMERIC,
        {"type": "python", "source": "def grade(sample, item):\n    return float(sample['output_text'])"},
    ],
    ids=lambda grading: grading["type"],
)  # fmt: skip
def test_no_answer_that_is_meant_to_break_a_grader_is_paid_for(grading: dict[str, Any]) -> None:
    report = only_report(
        grading={"name": "g", **grading}, only=("crash", "null_bytes", "not_a_number", "template", "long", "padding")
    )
    assert report.attacks
    assert report.survivors == []
    assert all(each.score is None or each.score == 0.0 for each in report.attacks)


def test_limits_decide_what_is_good() -> None:
    target = run(grading=NUMERIC, on=rows(1), only=("empty",)).graders[0].target
    paid = Outcome("attack", "opener", "t1", "Solution", 0.3)
    killed = [Outcome("attack", "empty", f"t{n}", "", 0.25) for n in range(9)]
    verdicts = {
        limits: GraderReport(target, (paid, *killed), limits).verdict
        for limits in (Limits(), Limits(threshold=0.3), Limits(min_mutation_score=0.9), Limits(min_mutation_score=0.91))
    }
    assert list(verdicts.values()) == ["failed", "good", "good", "failed"]
    assert GraderReport(target, (paid, *killed), Limits()).mutation_score == pytest.approx(0.9)


def test_the_names_of_the_groups_differ_from_those_of_the_cases() -> None:
    assert not {case.name for case in CASES} & set(SCRATCHES)


def test_a_judge_that_believes_what_it_reads_is_found_out_and_asked_afresh() -> None:
    def gullible(body: dict[str, Any]) -> Any:
        text = json.dumps(body["messages"])
        is_fooled = any(word in text for word in ("highest score", "step by step", "is correct"))
        return completion(
            {"steps": [], "result": 1.0 if is_fooled or "389.1" in text.partition("Answer:")[2] else 0.0},
            usage={"prompt_tokens": 7, "completion_tokens": 1},
        )

    judge = ScriptedJudge(say=gullible)
    grading = GradingConfig(
        name="judge", type="score_model", model="m", input=QUESTION, judge={"base_url": "http://localhost/v1"}
    )
    row = next(row for row in rows(key="reference_answer") if row.text == "389.1")
    row = replace(row, task=replace(row.task, item={**row.task.item, "reference": "389.1"}))
    only = ("judge_instruction", "opener", "claim", "noise")
    result = asyncio.run(
        attack(grading, [row], SuiteOptions(only=only, repeats=4), transport=httpx.MockTransport(judge))
    )
    (report,) = result.graders
    assert Counter(each.case for each in report.survivors) == {"judge_instruction": 1, "opener": 1, "claim": 1}
    assert result.asked == len(judge.bodies) == 1 + len(report.attacks) + 2 * 4  # and whether it is there
    assert (result.tokens["m"]["prompt"], result.cost_usd) == (7 * result.asked, None)


def test_a_failure_in_passing_is_asked_about_again() -> None:
    failures = iter([True, True])  # an attempt and its repetition

    def flaky(answer: str, item: dict[str, Any]) -> float:
        if answer == ":" and next(failures, False):
            raise RuntimeError("restarting")
        return perfect(answer, item)

    report = only_report(flaky, on=rows(1), only=("punctuation",))
    assert (report.ungraded, report.mutation_score) == ([], 1.0)
