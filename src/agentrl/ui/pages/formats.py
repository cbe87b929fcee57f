"""How the pages of episodes write figures, and the environment in which their templates are rendered."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from fastapi.responses import HTMLResponse
from markupsafe import Markup

from agentrl.ui.templating import environment
from agentrl.ui.traces.texts import visible


def signed(change: float) -> str:
    """With its sign, short; 0 has none."""
    return f"{change:+.3g}".replace("-", "−") if change else "0"


def seconds(value: float | None) -> str:
    """4.35 s, 132 s; of what took next to nothing, that."""
    if value is None:
        return "n/a"
    if 0 < value < 0.01:
        return "< 0.01 s"
    return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"


def in_runs(tools: tuple[str, ...]) -> list[tuple[str, int]]:
    """Each tool with how often it was called in a row."""
    return [(name, len(list(same))) for name, same in groupby(tools)]


def shown(value: object) -> object:
    """Text as `visible` has it, wherever a template prints it; `Markup` is ours and stays."""
    return value if isinstance(value, Markup) else visible(str(value))


ENVIRONMENT = environment()
ENVIRONMENT.finalize = shown
ENVIRONMENT.filters |= {"signed": signed, "seconds": seconds, "in_runs": in_runs}


def page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The template with the values, as an answer."""
    return HTMLResponse(ENVIRONMENT.get_template(template).render(values), status_code=status)
