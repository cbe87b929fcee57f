"""The numbers of a figure as CSV that a spreadsheet may open: no cell is a formula."""

from __future__ import annotations

import csv
import io

from agentrl.ui.figures import Figure

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What some spreadsheet takes for the beginning of one; the last four are the same signs in full width."""


def to_csv(figure: Figure) -> str:
    """A line for every place on the x axis, in its order: x, then each curve with its interval where it has one.

    Numbers are written so that they read back as the same numbers; a cell is empty where a curve has none.
    """
    heads = [figure.x]
    columns: list[dict[float, float]] = []
    for curve, name in zip(figure.curves, figure.columns, strict=True):
        x, low, high = (each.tolist() for each in curve.band)
        named = {name: (curve.x.tolist(), curve.y.tolist())} | (
            {f"{name}_low": (x, low), f"{name}_high": (x, high)} if x else {}
        )
        heads += named
        columns += [dict(zip(*pair, strict=True)) for pair in named.values()]
    text = io.StringIO()
    # quoted: where cells end at semicolons, as in many countries, a name would else go on in a cell of its own
    csv.writer(text, quoting=csv.QUOTE_ALL).writerow([cell(head) for head in heads])
    writer = csv.writer(text)
    for x in sorted(set().union(*columns)):
        writer.writerow([_number(x), *(_number(column[x]) if x in column else "" for column in columns)])
    return text.getvalue()


def cell(text: str) -> str:
    """Text for a cell; what a spreadsheet would calculate gets an apostrophe before it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
