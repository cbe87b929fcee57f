"""A few headings, paragraphs and tables, for a terminal, as Markdown and as HTML: said once, and escaped in each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentrl.evaluation.documents import text, whole_page
from agentrl.printable import printable

MISSING = "n/a"
"""Of a number that was not measured: neither 0 nor nothing."""
STYLE = (
    "th.start, td.start { text-align: left; white-space: normal } table { width: auto } td, th { padding-right: 18px }"
)


@dataclass(frozen=True)
class Table:
    """Rows of text under heads; `numbers` are the columns that are aligned to the right."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; text in `Table` and paragraphs may be anybody's."""

    title: str
    parts: Sequence[str | Table]


@dataclass(frozen=True)
class Document:
    """Under one title."""

    title: str
    sections: Sequence[Section] = field(default=())

    def to_text(self) -> str:
        """For a terminal: nothing in it moves a cursor."""
        lines = [printable(self.title)]
        for section in self.sections:
            lines += ["", section.title.upper()]
            for index, part in enumerate(section.parts):
                if index and isinstance(section.parts[index - 1], Table):
                    lines.append("")
                lines += _text_rows(part) if isinstance(part, Table) else [printable(part)]
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Markdown in which nobody's text is markup."""
        lines = [f"# {_markdown(self.title)}"]
        for section in self.sections:
            lines += ["", f"## {section.title}"]
            for part in section.parts:
                lines.append("")
                lines += _markdown_rows(part) if isinstance(part, Table) else [_markdown(part)]
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """A page of its own; nothing in it runs or loads."""
        body = f"<h1>{text(self.title)}</h1>"
        for section in self.sections:
            body += f"<section><h2>{text(section.title)}</h2>"
            for part in section.parts:
                body += _html_table(section.title, part) if isinstance(part, Table) else f"<p>{text(part)}</p>"
            body += "</section>"
        return whole_page(self.title, f"<main>{body}</main>", STYLE)


def _text_rows(part: Table) -> list[str]:
    rows = [part.heads] if any(part.heads) else []
    rows += [tuple(printable(cell) for cell in row) for row in part.rows]
    widths = [max((len(row[index]) for row in rows), default=0) for index in range(len(part.heads))]
    told = []
    for row in rows:
        cells = [
            cell.rjust(width) if index in part.numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        told.append("  ".join(cells).rstrip())
    return told


def _markdown_rows(part: Table) -> list[str]:
    ends = ["---:" if index in part.numbers else "---" for index in range(len(part.heads))]
    rows = [part.heads, tuple(ends), *(tuple(_markdown(cell) for cell in row) for row in part.rows)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _html_table(title: str, part: Table) -> str:
    """Heads and cells of a column stand on the same side."""

    def row_of(tag: str, row: tuple[str, ...]) -> str:
        kinds = ("" if index in part.numbers else ' class="start"' for index in range(len(row)))
        return "".join(f"<{tag}{kind}>{text(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    head = f"<thead><tr>{row_of('th', part.heads)}</tr></thead>" if any(part.heads) else ""
    body = "".join(f"<tr>{row_of('td', row)}</tr>" for row in part.rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(title)}"><table>{head}'
        f"<tbody>{body}</tbody></table></div>"
    )


def _markdown(line: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|!~])", r"\\\1", printable(line))


def number(value: float | None, digits: int = 3) -> str:
    """With so many decimals, or that there is none."""
    return MISSING if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """Of a fraction."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval, or nothing."""
    return "" if low is None or high is None else f"{low:,.{digits}f} to {high:,.{digits}f}"
