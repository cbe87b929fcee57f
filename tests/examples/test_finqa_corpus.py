"""The loader reads our JSONL form, the published FinQA files and the real pages, and names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from examples.finqa.corpus import Page, load_corpus, page_title, render_page

REAL = Path(__file__).parents[2].parent / "shared/finqa"

PAGE = {
    "path": "northern-steel/2014/page_37",
    "pre_text": "northern steel 2014 annual report balance sheets ( in millions )",
    "table": [["", "2014", "2013"], ["inventories", 482.3, 12.0], ["total assets", "1,523", None]],
    "post_text": "see the notes .",
}
QUESTION = {
    "id": "train-0001",
    "split": "train",
    "path": PAGE["path"],
    "question": "what were inventories in 2014 ?",
    "answer": 482.3,
    "answer_text": "482.3",
    "program": "482.3",
}
PUBLISHED = {
    "filename": "ETR/2016/page_23.pdf",
    "pre_text": ["entergy corporation .", "results ."],
    "post_text": ["."],
    "table": [["( in millions )", "2016"], ["net revenue", "$ 6512"]],
    "qa": {"question": "what was net revenue ?", "program": "6512", "answer": "6512", "exe_ans": 6512.0},
    "id": "ETR/2016/page_23.pdf-1",
}


def write(folder: Path, pages: list[Any], questions: list[Any]) -> Path:
    for name, rows in (("reports.jsonl", pages), ("questions.jsonl", questions)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def test_a_folder_of_ours_loads_with_its_splits(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path, [PAGE], [QUESTION]))
    assert corpus.pages[0].table[1] == ("inventories", "482.3", "12")
    assert (corpus.questions[0].split, corpus.questions[0].answer) == ("train", 482.3)


def test_split_is_empty_where_absent_and_taken_from_a_split_file(tmp_path: Path) -> None:
    without = {key: value for key, value in QUESTION.items() if key != "split"}
    write(tmp_path, [PAGE], [without])
    (tmp_path / "questions-test.jsonl").write_text(json.dumps({**without, "id": "other"}))
    assert {question.id: question.split for question in load_corpus(tmp_path).questions} == {
        "train-0001": "",
        "other": "test",
    }


def test_a_cell_is_rendered_with_its_row_and_header_and_empty_parts_are_skipped(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path, [PAGE, {**PAGE, "path": "a/2014/page_1", "pre_text": ""}], []))
    assert render_page(corpus.pages[0]).split("\n") == [
        "northern steel 2014 annual report balance sheets ( in millions )",
        "inventories 2014 482.3 ; inventories 2013 12",
        "total assets 2014 1,523",
        "see the notes .",
    ]
    assert render_page(corpus.pages[1]).startswith("inventories 2014 ")


def test_the_corner_cell_is_kept_because_it_often_holds_the_unit() -> None:
    page = Page("a", "", (("( in millions )", "2016"), ("revenue", "5")), "")
    assert render_page(page) == "( in millions )\nrevenue 2016 5"


def test_ragged_rows_and_an_absent_table_render() -> None:
    assert render_page(Page("a", "text", [], "")) == "text"
    assert render_page(Page("a", "", [["", "2016"], ["revenue", "5", "6"], ["heading"], []], "")) == (
        "revenue 2016 5 ; revenue 6\nheading"
    )


def test_a_title_is_the_first_sentence_of_at_most_twelve_words() -> None:
    words = " ".join(f"w{i}" for i in range(30))
    assert page_title(Page("a", words, [], "")).split() == [f"w{i}" for i in range(12)]
    assert page_title(Page("a", "one two three four five six . seven", [], "")) == "one two three four five six"


def test_published_entries_share_their_page_and_keep_the_file_as_split(tmp_path: Path) -> None:
    second = {**PUBLISHED, "id": "ETR/2016/page_23.pdf-2"}
    yes_no = {**PUBLISHED, "id": "ETR/2016/page_23.pdf-3", "qa": {**PUBLISHED["qa"], "exe_ans": "yes"}}  # type: ignore[dict-item]
    (tmp_path / "train.json").write_text(json.dumps([PUBLISHED, second, yes_no]))
    (tmp_path / "dev.json").write_text(json.dumps([{**PUBLISHED, "id": "d", "filename": "ETR/2017/page_1.pdf"}]))
    corpus = load_corpus(tmp_path)
    assert [page.path for page in corpus.pages] == ["ETR/2016/page_23.pdf", "ETR/2017/page_1.pdf"]
    assert [question.split for question in corpus.questions] == ["train", "train", "validation"]
    assert corpus.pages[0].pre_text == "entergy corporation . results ."
    assert load_corpus(tmp_path / "dev.json").questions[0].answer == 6512.0


@pytest.mark.parametrize(
    ("pages", "questions", "message"),
    [
        ([PAGE, "{not json"], [], r"reports\.jsonl:2: not JSON"),
        ([PAGE, "[1]"], [], r"reports\.jsonl:2: found list, expected an object"),
        ([PAGE, PAGE], [], r"reports\.jsonl:2: path .* appears twice"),
        ([{**PAGE, "table": "x"}], [], r"reports\.jsonl:1: table is 'x', expected a list of rows"),
        ([{**PAGE, "table": [[{}]]}], [], r"reports\.jsonl:1: cell is {}, expected text or a number"),
        ([{**PAGE, "pre_text": 3}], [], r"reports\.jsonl:1: pre_text is 3, expected text"),
        ([], [], "no pages"),
        ([PAGE], [QUESTION, QUESTION], r"questions\.jsonl:2: id 'train-0001' appears twice"),
        ([PAGE], [{**QUESTION, "path": "x"}], r"questions\.jsonl:1: path 'x' is not a page"),
        ([PAGE], [{**QUESTION, "answer": "7"}], r"questions\.jsonl:1: answer is '7', expected a finite number"),
        ([PAGE], [{**QUESTION, "answer": float("nan")}], r"questions\.jsonl:1: answer is nan"),
        ([PAGE], [{"id": "x"}], r"questions\.jsonl:1: path is nothing, expected str"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, pages: list[Any], questions: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_corpus(write(tmp_path, pages, questions))


def test_a_malformed_published_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("[\n{]")
    with pytest.raises(ValueError, match=r"train\.json:2: not JSON"):
        load_corpus(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps([PUBLISHED, {"qa": {}}]))
    with pytest.raises(ValueError, match=r"train\.json:entry 1: filename is nothing"):
        load_corpus(tmp_path)


def test_a_missing_source_is_a_file_not_found(tmp_path: Path) -> None:
    for source in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError):
            load_corpus(source)


@pytest.mark.skipif(not REAL.exists(), reason="the real pages (../shared/finqa) are not here")
def test_the_real_pages_load() -> None:
    corpus = load_corpus(REAL)
    assert (len(corpus.pages), len(corpus.questions)) == (150, 298)
    assert all(render_page(page) and page_title(page) for page in corpus.pages)
