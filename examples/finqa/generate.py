"""Write the synthetic reports and questions: `python -m examples.finqa.generate DIR [--seed 7]`.

A world is companies x years x pages in FinQA's form. A figure is the same on every page that prints it (the 2014
report repeats 2013), and each report has a page that looks like another one but belongs to a segment, so finding
the right page is part of the task. Companies, not pages, are dealt to the splits: no report, and no figure of a
report, is seen by two splits.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.finqa import lexicon
from examples.finqa.lexicon import LineItem, Statement

YEARS = range(2012, 2019)
SPLIT_SIZES = {"train": 1000, "validation": 100, "test": 300}


@dataclass(frozen=True)
class Table:
    """A page with the numbers still numbers: `values[item][year]`, each as printed."""

    path: str
    company: str
    segment: str | None
    statement: Statement
    labels: tuple[str, ...]
    items: tuple[LineItem, ...]
    years: tuple[int, ...]
    values: dict[tuple[int, int], str]
    opening: str
    closing: str

    def report(self) -> dict[str, Any]:
        """The page as a row of reports.jsonl."""
        rows = [["", *map(str, self.years)]]
        rows += [[label, *(self.values[i, year] for year in self.years)] for i, label in enumerate(self.labels)]
        return {"path": self.path, "pre_text": self.opening, "table": rows, "post_text": self.closing}


def format_value(value: float, style: str) -> str:
    """A number as the page prints it: "482.3" (tenths), "12,345" (grouped), "31.4%" (percent)."""
    if style == "grouped":
        return f"{round(value):,}"
    return f"{value:.1f}%" if style == "percent" else f"{value:.1f}"


def _series(rng: random.Random, item: LineItem, size: float, style: str) -> dict[int, str]:
    """One line's figures over the years: a random walk, printed once and for all."""
    style = "percent" if item.is_percent else style
    value = rng.uniform(3, 40) if item.is_percent else size * item.scale * rng.uniform(0.6, 1.4)
    values = {}
    for year in range(YEARS[0] - 2, YEARS[-1] + 1):
        # A rate drifts, an amount may jump; amounts in millions turn back below 1,000.
        low, high = (
            (0.88, 1.12) if item.is_percent else (0.75, 1.35) if value < 900 or style == "grouped" else (0.6, 0.8)
        )
        value *= rng.uniform(low, high)
        values[year] = format_value(max(value, 1.0), style)
    return values


def generate_tables(seed: int, *, n_companies: int = 100) -> list[Table]:
    """All pages of one world, 28 a company (seven reports of four pages), in the order of their paths."""
    rng = random.Random(seed)
    names = [f"{first} {second}" for first in lexicon.COMPANY_FIRST for second in lexicon.COMPANY_SECOND]
    tables = []
    for company in rng.sample(names, n_companies):
        statements = rng.sample(lexicon.STATEMENTS, 3)
        kinds: list[tuple[Statement, str | None]] = [(statement, None) for statement in statements]
        kinds.append((rng.choice(statements), rng.choice(lexicon.SEGMENTS)))
        reports = []
        for statement, segment in kinds:
            style = rng.choice(("tenths", "tenths", "grouped"))
            size = rng.uniform(150, 700) if style == "tenths" else rng.uniform(9_000, 90_000)
            items = tuple(rng.sample(statement.items, min(len(statement.items), rng.randint(4, 6))))
            labels = tuple(rng.choice(item.labels) for item in items)
            series = [_series(rng, item, size, style) for item in items]
            forms = lexicon.SEGMENT_OPENINGS if segment else lexicon.OPENINGS
            opening, title = rng.choice(forms), rng.choice(statement.titles)
            unit = "millions" if style == "tenths" else "thousands"
            n_years = rng.choice((2, 3, 3))
            for year in YEARS:
                years = tuple(year - back for back in range(n_years))
                values = {(i, y): series[i][y] for i in range(len(items)) for y in years}
                text = opening.format(who=company, year=year, title=title, unit=unit, segment=segment)
                reports.append((year, company, segment, statement, labels, items, years, values, text))
        for year in YEARS:
            pages = sorted(rng.sample(range(10, 140), len(kinds)))
            of_year = [report for report in reports if report[0] == year]
            for page, report in zip(rng.sample(pages, len(pages)), of_year, strict=True):
                path = f"{company.replace(' ', '-')}/{year}/page_{page}"
                tables.append(Table(path, *report[1:], closing=rng.choice(lexicon.CLOSINGS)))  # type: ignore[arg-type]
    return sorted(tables, key=lambda table: table.path)


def number(printed: str) -> float:
    """The value of a printed figure; a percentage is a fraction, as in FinQA's executed answers."""
    bare = printed.replace(",", "")
    return float(bare[:-1]) / 100 if bare.endswith("%") else float(bare)


@dataclass(frozen=True)
class Asked:
    """A question with everything that an annotator, or a demonstration, would write down about it."""

    kind: str
    table: Table
    question: str
    years: tuple[int, ...]
    operands: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]
    program: str
    expression: str | None
    answer: float
    answer_text: str


_PROGRAMS = {
    "lookup": "{0}",
    "difference": "subtract({0}, {1})",
    "percent_change": "subtract({0}, {1}), divide(#0, {1})",
    "ratio": "divide({0}, {1})",
    "sum": "add({0}, {1})",
    "average": "add({0}, {1}), divide(#0, const_2)",
}
_EXPRESSIONS = {
    "difference": "{0} - {1}",
    "percent_change": "( {0} - {1} ) / {1}",
    "ratio": "{0} / {1}",
    "sum": "{0} + {1}",
    "average": "( {0} + {1} ) / 2",
}


def execute(kind: str, a: float, b: float) -> float:
    """The answer to a question of this kind, rounded to five decimals like FinQA's `exe_ans`."""
    results = {
        "lookup": a,
        "difference": a - b,
        "percent_change": (a - b) / b,
        "ratio": a / b,
        "sum": a + b,
        "average": (a + b) / 2,
    }
    return round(results[kind], 5)


def expression(kind: str, operands: tuple[str, ...]) -> str | None:
    """What to type into `calculate`; None where the answer stands on the page."""
    return _EXPRESSIONS[kind].format(*operands) if kind in _EXPRESSIONS else None


def ask(table: Table, rng: random.Random) -> Asked:
    """One question that this page answers. Percent lines are only looked up or subtracted."""
    kind = rng.choice(tuple(lexicon.QUESTION_FORMS))
    money = [i for i, item in enumerate(table.items) if not item.is_percent]
    pool = list(range(len(table.items))) if kind in ("lookup", "difference") else money
    first, second = ([*rng.sample(pool, 2), 0])[:2] if len(pool) > 1 else (pool[0], pool[0])
    y1, y0 = table.years[0], rng.choice(table.years[1:])
    if kind in ("lookup", "ratio", "sum") and rng.random() < 0.2:
        y1 = y0  # an earlier column; most questions are about the report's own year
    printed = table.values[first, y1]
    other = {"ratio": (second, y1), "sum": (second, y1)}.get(kind, (first, y0))
    cells = ((first, y1),) if kind == "lookup" else ((first, y1), other)
    operands = tuple(table.values[cell] for cell in cells)
    # Mostly the page's own words for a line, sometimes a synonym.
    names = [rng.choice(table.items[i].labels) if rng.random() < 0.2 else table.labels[i] for i in (first, second)]
    who = f"the {table.segment} of {table.company}" if table.segment else table.company
    question = rng.choice(lexicon.QUESTION_FORMS[kind]).format(a=names[0], b=names[1], who=who, y0=y0, y1=y1)
    answer = execute(kind, number(operands[0]), number(operands[-1]))
    as_percent = kind == "percent_change" or printed.endswith("%")
    answer_text = f"{answer * 100:.2f}%" if as_percent else f"{answer:g}"
    program = _PROGRAMS[kind].format(*operands)
    years = (y1,) if kind in ("lookup", "ratio", "sum") else (y1, y0)
    typed = expression(kind, operands)
    return Asked(kind, table, question, years, operands, cells, program, typed, answer, answer_text)


def generate_questions(tables: list[Table], seed: int) -> list[dict[str, Any]]:
    """Rows of questions.jsonl: companies are dealt to the splits in the ratio of the splits' sizes."""
    rng = random.Random(seed + 1)
    companies = sorted({table.company for table in tables})
    rng.shuffle(companies)
    total, start, rows = sum(SPLIT_SIZES.values()), 0.0, []
    for split, size in SPLIT_SIZES.items():
        share = len(companies) * size / total
        mine = set(companies[round(start) : round(start + share)])
        start += share
        pool, seen = [table for table in tables if table.company in mine], set()
        while len(seen) < size:
            asked = ask(rng.choice(pool), rng)
            if asked.question in seen:
                continue
            seen.add(asked.question)
            rows.append(
                {
                    "id": f"{split}-{len(seen):04d}",
                    "split": split,
                    "path": asked.table.path,
                    "question": asked.question,
                    "answer": asked.answer,
                    "answer_text": asked.answer_text,
                    "program": asked.program,
                }
            )
    return rows


def write_world(folder: Path, seed: int) -> None:
    """Write reports.jsonl and questions.jsonl; the same seed gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = generate_tables(seed)
    for name, rows in (
        ("reports.jsonl", [table.report() for table in tables]),
        ("questions.jsonl", generate_questions(tables, seed)),
    ):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    write_world(arguments.folder, arguments.seed)
