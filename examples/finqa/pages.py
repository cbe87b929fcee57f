"""The records of the task, and the text that `cat` shows and search indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

TITLE_WORDS = 12
SENTENCE_WORDS = 6  # a full stop before that many words ends an abbreviation ("inc .") rather than a sentence


@dataclass(frozen=True)
class Page:
    """One report page; the table's first row is its header."""

    path: str
    pre_text: str
    table: Sequence[Sequence[str]]
    post_text: str

    def __repr__(self) -> str:
        return f"Page({self.path!r}, {len(self.table)} table rows)"


@dataclass(frozen=True)
class Question:
    """A question and its executed answer; percentages are fractions in `answer`, as printed in `answer_text`."""

    id: str
    path: str
    question: str
    answer: float
    answer_text: str
    program: str
    split: str = ""


@dataclass(frozen=True)
class Corpus:
    """All pages, and the questions that they answer."""

    pages: tuple[Page, ...]
    questions: tuple[Question, ...]

    def __repr__(self) -> str:
        return f"Corpus({len(self.pages)} pages, {len(self.questions)} questions)"


def render_page(page: Page) -> str:
    """The page as text: every table cell carries its row's and column's name, so no reader has to count columns.

    "net sales 2014 482.3 ; net sales 2013 455.1", one line a row, after FinQA's own way of turning tables into text.
    """
    header, *rows = page.table or [[]]
    lines = [page.pre_text, header[0] if header else ""]
    for row in rows:
        label = row[0] if row else ""
        cells = [(f"{label} {name}".strip(), cell) for name, cell in zip_longest(header[1:], row[1:], fillvalue="")]
        shown = [" ".join(filter(None, pair)) for pair in cells if pair[1]]
        lines.append(" ; ".join(shown) or label)
    if not rows:
        lines.append(" ; ".join(header[1:]))
    lines.append(page.post_text)
    return "\n".join(line.strip() for line in lines if line.strip())


def page_title(page: Page) -> str:
    """The page's first sentence, cut to twelve words (a mark of punctuation is no word)."""
    opening = (page.pre_text.strip() or render_page(page)).split("\n")[0]
    kept: list[str] = []
    n_words = 0
    for token in opening.split():
        n_words += any(character.isalnum() for character in token)
        if n_words > TITLE_WORDS or (token == "." and n_words >= SENTENCE_WORDS):
            break
        kept.append(token)
    while kept and kept[-1] in ("(", ",", ";", ":"):
        kept.pop()
    return " ".join(kept)
