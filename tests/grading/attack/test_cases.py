"""What the attacks say: never the right answer by chance, on purpose where that is the attack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrl.config import GradingConfig
from agentrl.errors import ConfigError
from agentrl.grading.attack.cases import CASES, wrong_answer
from agentrl.grading.attack.forms import CHANGES, N_FORMS, ladder
from agentrl.grading.attack.rows import keys_compared, number_of, numbers_in, plain, reference_key, rows_of
from agentrl.grading.attack.suite import NAMES
from tests.factories import make_task
from tests.grading.attack.weak import rows, tasks

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_attack_has_the_right_answer_in_it_only_where_that_is_the_attack(case: object) -> None:
    for row in rows():
        texts = BY_NAME[case.name].answers(row)  # type: ignore[attr-defined]
        if not BY_NAME[case.name].holds_answer:  # type: ignore[attr-defined]
            assert not [text for text in texts if row.holds_answer(text)]
        assert len(texts) == len(set(texts))


def test_every_case_applies_to_some_row_of_numbers() -> None:
    assert [case.name for case in CASES if not any(case.answers(row) for row in rows())] == []


def test_cases_about_numbers_do_not_apply_to_words() -> None:
    texts = [make_task(f"t{n}", answer=word) for n, word in enumerate(["Paris", "Rome", "Lima", "Oslo", "Cairo"])]
    for row in rows_of(texts, n=5, seed=1):
        silent = {case.name for case in CASES if not case.answers(row)}
        assert silent == {"number_range", "wrong_unit"}
        assert {change.name for change in CHANGES if change.answers(row)} == {"paraphrase", "order", "markup"}


def test_a_text_that_is_right_by_chance_is_no_attack() -> None:
    row = rows_of([make_task("1", answer=1.0), make_task("2", answer=2.0)], n=1, seed=1)[0]
    assert row.value in (1.0, 2.0)
    assert json.dumps({"score": 1.0}) not in BY_NAME["json_score"].answers(row) or row.value == 2.0
    word = rows_of([make_task("t", answer="correct"), make_task("u", answer="false")], n=2, seed=1)
    claims = {row.text: BY_NAME["claim"].answers(row) for row in word}
    assert "The answer is correct." not in claims["correct"]
    assert "The answer is correct." in claims["false"]


def test_the_wrong_unit_of_a_share_is_its_percentage_without_the_sign() -> None:
    share, amount = (next(row for row in rows() if row.text == text) for text in ("0.31547", "389.1"))
    assert "31.547" in BY_NAME["wrong_unit"].answers(share)
    assert "0.31547" in CHANGES[-1].answers(share)
    assert "31.547%" in CHANGES[-1].answers(share)
    assert {"389.1 million", "389.1 thousand", "389.1%"} <= set(BY_NAME["wrong_unit"].answers(amount))


def test_a_wrong_answer_is_far_from_the_right_one() -> None:
    for row in rows():
        wrong = number_of(wrong_answer(row) or "")
        assert wrong is not None
        assert not row.holds_answer(str(wrong))


def test_forms_are_few_and_all_different() -> None:
    for row in rows():
        for change in CHANGES:
            forms = change.answers(row)
            assert len(forms) in (0, *range(2, N_FORMS + 1))
            assert len(set(forms)) == len(forms)


def test_answers_are_written_in_the_form_that_is_asked_for() -> None:
    row = rows(form='{"answer": {answer}}')[0]
    assert json.loads(ladder(row)["right"]) == {"answer": row.value}
    assert all(json.loads(text) for text in BY_NAME["other_row"].answers(row) if "is" not in text)
    openers = BY_NAME["opener"].answers(row)
    assert "Solution" in openers
    assert '{"answer": Solution}' in openers


def test_the_answer_is_found_among_the_keys() -> None:
    assert reference_key({"path": "x", "answer_text": "5%", "reference_answer": 0.05}) == "reference_answer"
    assert reference_key({"label": "yes", "id": 3}) == "label"
    assert reference_key({"path": "x", "answer": None}) is None
    assert reference_key({"door": "2", "pointed": "1"}, ["door"]) == "door"
    assert reference_key({"door": "2", "expected": "1"}, ["door"]) == "expected"


def test_the_keys_that_a_grader_compares_with_come_first() -> None:
    reads = {"type": "string_check", "operation": "eq", "input": "{{item.form}} {{sample.output_text}}"}
    parts = {"a": {**reads, "reference": "{{ item.door }}"}, "b": {**reads, "reference": "{{ item['the key'] }}"}}
    config = GradingConfig(name="g", type="multi", graders=parts, calculate_output="a * b")
    assert keys_compared(config) == ("door", "the key", "form")


@pytest.mark.parametrize(("options", "message"), [({"key": "nothing"}, "no row has an answer under 'nothing'"),
                                                  ({"form": "x"}, "a text with {answer} in it")])  # fmt: skip
def test_rows_without_an_answer_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rows_of(tasks(), n=1, seed=1, **options)  # type: ignore[arg-type]


def test_rows_are_drawn_by_the_seed() -> None:
    def drawn(seed: int) -> list[str]:
        return [row.task.id for row in rows_of(tasks(), n=4, seed=seed)]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1


@pytest.mark.parametrize(("text", "value"), [("31.55%", 0.3155), ("$1,234.5", 1234.5), ("-4", -4.0), ("Paris", None),
                                             ("nan", None), ("inf", None), ("", None), (".9", 0.9)])  # fmt: skip
def test_a_reference_may_be_printed(text: str, value: float | None) -> None:
    assert number_of(text) == (value if value is None else pytest.approx(value))


def test_numbers_are_written_in_plain_digits() -> None:
    assert [plain(value) for value in (121.0, 0.1 + 0.2, 1e-5, 1810690000.5, 1e20)] == [
        "121", "0.3", "0.00001", "1810690000.5", "100000000000000000000"]  # fmt: skip
    assert numbers_in("1,234.5 and -.5 or x7") == [1234.5, -0.5]


def test_the_page_names_every_case_and_every_change_of_form() -> None:
    text = (Path(__file__).parents[3] / "docs/grader-attack.md").read_text("utf-8")
    assert [name for name in NAMES if f"`{name}`" not in text] == []
