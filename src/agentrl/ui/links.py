"""Names of runs in addresses. One part of a path each, though a run may lie in a folder: `sweep/a` is `sweep~1a`.

The marks are those of JSON pointers (RFC 6901), and `~2` for `.`, which browsers take for a folder. In queries and
forms a name is quoted, for what a page cannot hold: most names are left as they are.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlencode

MARKS = (("~", "~0"), ("/", "~1"))
HERE = "~2"
"""Of the run that is the directory itself, whose name is `.`."""


def run_url(name: str, *parts: str, **query: object) -> str:
    """`/runs/NAME`, with further parts, and what of the query is not None or empty; tuples are repeated."""
    path = "".join(f"/{quote(part, safe='')}" for part in parts)
    return with_query(f"/runs/{quote(run_key(name), safe='~')}{path}", **query)


def with_query(path: str, **query: object) -> str:
    """The path with what of the query is not None or empty; tuples are repeated."""
    asked = {key: value for key, value in query.items() if value is not None and value not in ("", ())}
    return f"{path}?{urlencode(asked, doseq=True)}" if asked else path


def run_key(name: str) -> str:
    """The name as one part of a path, before it is quoted."""
    if name == ".":
        return HERE
    for plain, mark in MARKS:
        name = name.replace(plain, mark)
    return name


def run_name(key: str) -> str:
    """The inverse of `run_key`."""
    if key == HERE:
        return "."
    for plain, mark in reversed(MARKS):
        key = key.replace(mark, plain)
    return key


def run_value(name: str) -> str:
    """The name as a value of a query or of a form."""
    return quote(name, safe="/ +=,:;@()[]")


def name_of_value(value: str) -> str:
    """The inverse of `run_value`."""
    return unquote(value)


def as_file_name(name: str) -> str:
    """The name as any system takes it for a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "agentrl"
