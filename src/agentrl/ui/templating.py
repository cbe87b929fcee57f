"""Templates in which nothing that a model, a tool or a config wrote can be anything but text.

All values are escaped, and control characters shown as symbols, wherever a template prints them: no filter has to be
remembered. Only what our own functions return as `Markup` is taken as it is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agentrl.evaluation.charts import number
from agentrl.ui.links import run_url, run_value, with_query

TEMPLATES = Path(__file__).parent / "templates"
LINE_ENDS = frozenset({0x09, 0x0A})
SYMBOLS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if code not in LINE_ENDS},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    # text that runs backwards says one thing and shows another
    **{code: f"[U+{code:04X}]" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),  # halves of a character, which no page can hold
}


def digest(text: str) -> str:
    """Tells two versions of a part of a page apart."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def shown(value: object) -> object:
    """The value as text with its control characters as symbols; `Markup` is ours and stays."""
    return value if isinstance(value, Markup) else str(value).translate(SYMBOLS)


def environment() -> Environment:
    """Filters: `shown`; `number`, `score`, `percent`, `moment` and `duration` for people; `run_value` for
    forms. Functions: `run_url`, `with_query`."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": shown, "number": _number, "score": _score, "percent": _percent}
    made.filters |= {"moment": _moment, "duration": _duration, "run_value": run_value}
    made.filters["digest"] = digest
    made.globals |= {"run_url": run_url, "with_query": with_query}
    return made


def _number(value: float | None) -> str:
    return "n/a" if value is None else number(value)


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _moment(iso: str) -> str:
    """2026-11-21T18:36:12+00:00 as 2026-11-21 18:36."""
    return iso[:16].replace("T", " ")


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


ENVIRONMENT = environment()


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> HTMLResponse:
    """The template with the values, as an answer."""
    return HTMLResponse(ENVIRONMENT.get_template(template).render(values), status_code=status, headers=headers)


def fragment(template: str, **values: Any) -> Markup:
    """The template with the values, to be put into another."""
    return Markup(ENVIRONMENT.get_template(template).render(values))
