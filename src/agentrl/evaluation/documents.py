"""HTML documents that work offline: escaped text, the whole page, its frame in a notebook, a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from agentrl.evaluation.style import CSS
from agentrl.printable import visible


def text(value: object) -> str:
    """Escaped for HTML, with symbols for the characters that would not be seen."""
    return escape(visible(str(value)))


def whole_page(title: str, body: str, more_css: str = "") -> str:
    """A document of its own, in the style of report.html; nothing in it runs or loads.

    Args:
        body: HTML; what models wrote is escaped in it.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # should escaping ever fail, nothing that a model wrote may run or load
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{CSS}{more_css}</style></head><body>{body}</body></html>\n"
    )


def framed(page: str, *, title: str, height: int = 720) -> str:
    """A page inside of another one, such as a notebook, that shares neither style nor rights with it."""
    return (
        f'<iframe sandbox title="{text(title)}" style="width:100%;height:{height}px;border:1px solid #8888" '
        f'srcdoc="{escape(page, quote=True)}"></iframe>'
    )


def table(label: str, heads: Sequence[str], body: str, *, kind: str = "", has_caption: bool = False) -> str:
    """Rows under their heads; one that is wider than the window scrolls by itself, with the keyboard as well."""
    head = "".join(f'<th scope="col">{text(each)}</th>' for each in heads)
    caption = f"<caption>{text(label)}</caption>" if has_caption else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(label)}"><table class="{kind}">{caption}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
