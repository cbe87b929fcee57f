"""Templates in which nothing that a model, a tool or a config wrote can be anything but text.

All values are escaped, and control characters shown as symbols, wherever a template prints them: no filter has to be
remembered. Only what our own functions return as `Markup` is taken as it is.
"""

from __future__ import annotations

import hashlib
from itertools import groupby
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agentrl.evaluation.charts import number
from agentrl.printable import visible
from agentrl.ui.links import run_url, run_value, with_query

TEMPLATES = Path(__file__).parent / "templates"


def digest(text: str) -> str:
    """Tells two versions of a part of a page apart."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def shown(value: object) -> object:
    """The value as text, with symbols for the characters that would not be seen; `Markup` is ours and stays."""
    return value if isinstance(value, Markup) else visible(str(value))


def environment() -> Environment:
    """Filters: `number`, `score`, `percent`, `signed`, `seconds`, `moment` and `duration` for people, `in_runs` for
    sequences of tools, `run_value` for forms, `digest`. Functions: `run_url`, `with_query`."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": _number, "score": _score, "percent": _percent}
    made.filters |= {"signed": _signed, "seconds": _seconds, "moment": _moment, "duration": _duration}
    made.filters |= {"in_runs": _in_runs, "run_value": run_value, "digest": digest}
    made.globals |= {"run_url": run_url, "with_query": with_query}
    return made


def _number(value: float | None) -> str:
    return "n/a" if value is None else number(value)


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _signed(change: float) -> str:
    """With its sign, short; 0 has none."""
    return f"{change:+.3g}".replace("-", "−") if change else "0"


def _seconds(value: float | None) -> str:
    """4.35 s, 132 s; of what took next to nothing, that."""
    if value is None:
        return "n/a"
    if 0 < value < 0.01:
        return "< 0.01 s"
    return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"


def _moment(iso: str) -> str:
    """2026-11-21T18:36:12+00:00 as 2026-11-21 18:36."""
    return iso[:16].replace("T", " ")


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _in_runs(tools: tuple[str, ...]) -> list[tuple[str, int]]:
    """Each tool with how often it was called in a row."""
    return [(name, len(list(same))) for name, same in groupby(tools)]


ENVIRONMENT = environment()


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> HTMLResponse:
    """The template with the values, as an answer."""
    return HTMLResponse(ENVIRONMENT.get_template(template).render(values), status_code=status, headers=headers)


def fragment(template: str, **values: Any) -> Markup:
    """The template with the values, to be put into another."""
    return Markup(ENVIRONMENT.get_template(template).render(values))
