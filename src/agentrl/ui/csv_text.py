"""The numbers of a figure as CSV that a spreadsheet may open: no cell is a formula."""

from __future__ import annotations

import csv
import io

from agentrl.ui.figures import Figure

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(figure: Figure) -> str:
    """A line for every place on the x axis, in its order: x, then each curve with its interval where it has one.

    Numbers are written so that they read back as the same numbers; a cell is empty where a curve has none.
    """
    heads = [figure.x]
    columns: list[dict[float, float]] = []
    for series, name in zip(figure.series, figure.columns, strict=True):
        heads.append(name)
        columns.append(dict(series.points))
        if series.band:
            heads += [f"{name}_low", f"{name}_high"]
            columns.append({x: low for x, low, _ in series.band})
            columns.append({x: high for x, _, high in series.band})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([cell(head) for head in heads])
    for x in sorted(set().union(*columns)):
        writer.writerow([_number(x), *(_number(column[x]) if x in column else "" for column in columns)])
    return text.getvalue()


def cell(text: str) -> str:
    """Text for a cell; what a spreadsheet would calculate gets an apostrophe before it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
