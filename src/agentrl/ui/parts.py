"""Pages that follow what they show: parts with digests, of which a browser swaps those that changed.

A page prints its parts and names the address that tells them anew. There the answer is 304 as long as nothing changed,
and else all parts; static/live.js asks and swaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from markupsafe import Markup

from agentrl.runs.files import to_json
from agentrl.ui.templating import digest, page


@dataclass(frozen=True)
class Followed:
    """What a page shows now."""

    parts: Mapping[str, Markup]
    """By id; a page has the same ids every time."""
    said: str = ""
    """For whoever does not see the page, when it changes."""
    progress: str = ""
    """How far it is, such as `step 7 of 20`."""
    age_seconds: float | None = None
    """Since what is shown was written."""
    is_live: bool = False
    """More is expected soon."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the template of the page alone."""


def followed_page(template: str, live_url: str, followed: Followed) -> Response:
    """The page, whose template prints `parts[ID]` with the macro of live.html."""
    return page(template, live_url=live_url, followed=followed, parts=followed.parts, **followed.facts)


def unchanged(request: Request, etag: str) -> bool:
    """Whether the browser has what the tag stands for."""
    return etag in {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}


def followed_parts(followed: Followed, etag: str) -> Response:
    """All parts, for live.js."""
    told = {
        "parts": {name: {"digest": digest(html), "html": html} for name, html in followed.parts.items()},
        "said": followed.said,
        "progress": followed.progress,
        "age_seconds": followed.age_seconds,
        "is_live": followed.is_live,
    }
    return Response(to_json(told).encode(), media_type="application/json", headers={"ETag": etag})


def tag(*parts: object) -> str:
    """An ETag of what an answer depends on."""
    return f'"{digest(repr(parts))}"'
