"""Report pages and questions, from the JSONL form or from the published FinQA files.

One line of reports.jsonl and one of questions.jsonl:

    {"path": "ETR/2016/page_23.pdf", "pre_text": "...", "table": [["", "2016"], ["net revenue", 6512]],
     "post_text": "..."}
    {"id": "q-1", "path": "ETR/2016/page_23.pdf", "question": "...", "answer": 6512.0, "answer_text": "6512",
     "program": "6512", "split": "train"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from examples.finqa.pages import Corpus, Page, Question, page_title, render_page

__all__ = ["Corpus", "Page", "Question", "load_corpus", "page_title", "render_page"]

PUBLISHED_SPLITS = {"train.json": "train", "dev.json": "validation", "test.json": "test"}


def load_corpus(source: str | Path) -> Corpus:
    """Read a folder (reports.jsonl with questions*.jsonl, or train/dev/test.json), or one of these files.

    Published questions whose answer is not a number (yes/no) are left out, their pages are kept.

    Raises:
        FileNotFoundError: the source, or the files expected in it, are not there.
        ValueError: a malformed line; the message names file:line, what was found and what is allowed.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    if source.suffix == ".json":
        return _load_published([source])
    folder = source if source.is_dir() else source.parent
    if (folder / "reports.jsonl").exists():
        return _load_jsonl(folder)
    published = [folder / name for name in PUBLISHED_SPLITS if (folder / name).exists()]
    if not published:
        raise FileNotFoundError(f"{folder}: expected reports.jsonl, or one of {', '.join(PUBLISHED_SPLITS)}")
    return _load_published(published)


def _load_jsonl(folder: Path) -> Corpus:
    pages: dict[str, Page] = {}
    for where, row in _json_lines(folder / "reports.jsonl"):
        page = _page(row, "path", where)
        if page.path in pages:
            raise ValueError(f"{where}: path {page.path!r} appears twice; each page has one line")
        pages[page.path] = page
    questions: dict[str, Question] = {}
    for file in sorted(folder.glob("questions*.jsonl")):
        split = file.stem.removeprefix("questions").strip("-_")
        for where, row in _json_lines(file):
            question = Question(
                id=_field(row, "id", str, where),
                path=_field(row, "path", str, where),
                question=_field(row, "question", str, where),
                answer=_number(row.get("answer"), where),
                answer_text=_cell(row.get("answer_text", ""), where),
                program=_field({"program": "", **row}, "program", str, where),
                split=_field({"split": split, **row}, "split", str, where),
            )
            if question.id in questions:
                raise ValueError(f"{where}: id {question.id!r} appears twice; ids are unique")
            if question.path not in pages:
                raise ValueError(f"{where}: path {question.path!r} is not a page of reports.jsonl")
            questions[question.id] = question
    return _corpus(folder, pages, questions)


def _load_published(files: Sequence[Path]) -> Corpus:
    """FinQA's own files: a list of entries, each a question with its page; many entries share a page."""
    pages: dict[str, Page] = {}
    questions: dict[str, Question] = {}
    for file in files:
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}:{error.lineno}: not JSON ({error.msg}); expected a list of entries") from None
        if not isinstance(entries, list):
            raise ValueError(f"{file}:1: found {type(entries).__name__}, expected a list of entries")
        for place, entry in enumerate(entries):
            where = f"{file}:entry {place}"
            page = _page(_object(entry, where), "filename", where)
            pages.setdefault(page.path, page)
            answered = entry.get("qa")
            if answered is None:
                continue
            answered = _object(answered, f"{where}: qa")
            executed = answered.get("exe_ans")
            if isinstance(executed, str):
                continue  # yes/no questions: this task is answered by numbers
            question = Question(
                id=_field({"id": f"{page.path}#{place}", **entry}, "id", str, where),
                path=page.path,
                question=_field(answered, "question", str, where),
                answer=_number(executed, where),
                answer_text=_cell(answered.get("answer", ""), where),
                program=_field({"program": "", **answered}, "program", str, where),
                split=PUBLISHED_SPLITS.get(file.name, ""),
            )
            if question.id in questions:
                raise ValueError(f"{where}: id {question.id!r} appears twice; ids are unique")
            questions[question.id] = question
    return _corpus(files[0].parent, pages, questions)


def _corpus(folder: Path, pages: dict[str, Page], questions: dict[str, Question]) -> Corpus:
    if not pages:
        raise ValueError(f"{folder}: no pages; expected at least one")
    return Corpus(tuple(pages.values()), tuple(questions.values()))


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{file}:{number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{where}: not JSON ({error.msg}); expected one object a line") from None
                yield where, _object(row, where)


def _object(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{where}: found {type(found).__name__}, expected an object")
    return found


def _field(row: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if not isinstance(row.get(key), kind):
        found = f"{row[key]!r}"[:60] if key in row else "nothing"
        raise ValueError(f"{where}: {key} is {found}, expected {kind.__name__}")
    return row[key]


def _number(found: Any, where: str) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{where}: answer is {found!r}, expected a finite number")
    return float(found)


def _cell(found: Any, where: str) -> str:
    """A table cell as text; JSON numbers lose a trailing ".0"."""
    if isinstance(found, float) and found.is_integer() and abs(found) < 1e15:
        return str(int(found))
    if found is None or isinstance(found, str | int | float):
        return "" if found is None else str(found).strip()
    raise ValueError(f"{where}: cell is {found!r}, expected text or a number")


def _page(row: dict[str, Any], path_key: str, where: str) -> Page:
    path = _field(row, path_key, str, where)
    texts = []
    for key in ("pre_text", "post_text"):
        text = row.get(key, "")
        if isinstance(text, list) and all(isinstance(part, str) for part in text):
            text = " ".join(part.strip() for part in text if part.strip())
        if not isinstance(text, str):
            raise ValueError(f"{where}: {key} is {text!r:.60}, expected text or a list of texts")
        texts.append(text)
    table = row.get("table", [])
    if not isinstance(table, list) or not all(isinstance(cells, list) for cells in table):
        raise ValueError(f"{where}: table is {table!r:.60}, expected a list of rows, each a list of cells")
    rows = tuple(tuple(_cell(cell, where) for cell in cells) for cells in table)
    return Page(path, texts[0], rows, texts[1])
