from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from examples.finqa.calculator import calculate
from examples.finqa.corpus import load_corpus
from examples.finqa.generate import SPLIT_SIZES, ask, execute, generate_tables, number, write_world
from examples.finqa.grader import grade_answer
from examples.finqa.tasks import load_splits

DATA = Path(__file__).parents[2] / "examples/finqa/data"


@pytest.fixture(scope="module")
def questions() -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / "questions.jsonl").read_text().splitlines()]


def test_the_shipped_data_is_what_the_generator_writes(tmp_path: Path) -> None:
    write_world(tmp_path, 7)
    for name in ("reports.jsonl", "questions.jsonl"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_there_are_2800_pages_and_the_splits_have_their_sizes(questions: list[dict[str, object]]) -> None:
    assert len((DATA / "reports.jsonl").read_text().splitlines()) == 2800
    assert Counter(row["split"] for row in questions) == SPLIT_SIZES


def test_no_document_and_no_company_serves_two_splits(questions: list[dict[str, object]]) -> None:
    splits_of_page, splits_of_company = defaultdict(set), defaultdict(set)
    for row in questions:
        path = str(row["path"])
        splits_of_page[path].add(row["split"])
        splits_of_company[path.split("/")[0]].add(row["split"])
    assert {len(splits) for splits in splits_of_page.values()} == {1}
    assert {len(splits) for splits in splits_of_company.values()} == {1}


def test_every_kind_of_question_occurs_in_every_split(questions: list[dict[str, object]]) -> None:
    kinds = defaultdict(set)
    for row in questions:
        program = str(row["program"])
        first = program.split("(")[0] if "(" in program else "lookup"
        kinds[row["split"]].add((first, "divide(#0, const_2)" in program, "divide(#0" in program))
    assert all(len(found) == 6 for found in kinds.values())


def test_the_program_typed_into_the_calculator_gives_the_answer() -> None:
    tables = generate_tables(3, n_companies=4)
    rng = random.Random(0)
    for _ in range(300):
        asked = ask(rng.choice(tables), rng)
        typed = asked.expression or asked.operands[0]
        assert grade_answer(f"the answer is {calculate(typed)}", asked.answer, asked.answer_text) == 1.0, asked


def test_a_figure_is_the_same_on_every_page_of_its_statement() -> None:
    seen: dict[object, str] = {}
    for table in generate_tables(3, n_companies=4):
        for (row, year), value in table.values.items():
            key = (table.company, table.segment, table.labels, row, year)
            assert seen.setdefault(key, value) == value


def test_each_report_has_a_near_duplicate_page_of_a_segment() -> None:
    reports = defaultdict(list)
    for table in generate_tables(3, n_companies=4):
        reports["/".join(table.path.split("/")[:2])].append(table)
    for pages in reports.values():
        (segment,) = [page for page in pages if page.segment]
        assert segment.statement in [page.statement for page in pages if not page.segment]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("difference", 2.0),
        ("percent_change", 0.66667),
        ("ratio", 1.66667),
        ("sum", 8.0),
        ("average", 4.0),
        ("lookup", 5.0),
    ],
)
def test_answers_are_executed_like_finqas(kind: str, expected: float) -> None:
    assert execute(kind, 5.0, 3.0) == expected


def test_printed_figures_are_read_back() -> None:
    assert [number(text) for text in ("482.3", "12,345", "31.4%")] == pytest.approx([482.3, 12345.0, 0.314])


def test_questions_become_tasks_by_split_and_tools_get_no_answer_from_the_messages() -> None:
    splits = load_splits(DATA)
    assert {split: len(tasks) for split, tasks in splits.items()} == SPLIT_SIZES
    task = splits["train"][0]
    assert task.messages[-1]["role"] == "user"
    assert "reference_answer" in task.item


def test_real_pages_load_as_the_same_task() -> None:
    folder = Path(__file__).parents[2].parent / "shared/finqa"
    if not folder.exists():
        pytest.skip("the real report pages (../shared/finqa) are not on this machine")
    splits = load_splits(folder)
    companies = [{task.item["path"].split("/")[0] for task in tasks} for tasks in splits.values()]
    assert sum(len(tasks) for tasks in splits.values()) == len(load_corpus(folder).questions)
    assert not companies[0] & companies[1]
    assert not companies[0] & companies[2]
