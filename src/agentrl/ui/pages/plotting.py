"""Figures on pages: the drawing with its legend, its notes and its downloads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastapi.responses import Response
from markupsafe import Markup

from agentrl.ui.charts import Limit, draw
from agentrl.ui.csv_text import to_csv
from agentrl.ui.figures import Figure
from agentrl.ui.links import as_file_name
from agentrl.ui.templating import digest, fragment


def plot_part(
    figure: Figure, csv_url: str, file_name: str, limits: Sequence[Limit] = (), *, subject: str = ""
) -> Markup:
    """The figure as HTML; empty where it has no point.

    Args:
        subject: whom it is of, for its PNG, which leaves the page that says so.
    """
    drawing = draw(figure, limits)
    if drawing is None:
        return Markup("")
    is_plain = re.fullmatch(r"[a-z][a-z0-9_-]*", figure.name)
    return fragment(
        "plot.html",
        figure=figure,
        drawing=drawing,
        plot_id=f"plot-{figure.name if is_plain else digest(figure.name)}",
        digest=digest(repr((figure.title, drawing))),
        csv_url=csv_url,
        file_name=as_file_name(file_name),
        subject=subject,
    )


def csv_answer(figure: Figure, file_name: str) -> Response:
    """The figure's numbers as a file."""
    return Response(
        to_csv(figure).encode("utf-8", "replace"),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{as_file_name(file_name)}.csv"'},
    )
