"""A config as trackers may have it: flat, and without what is secret, long, or a path into somebody's servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from agentrl.config.tracking import SECRET_NAME
from agentrl.monitoring.redaction import redact_text
from agentrl.monitoring.session_record import digest

Scalar = str | int | float | bool
HIDDEN = "***"
VARIABLE = re.compile(r"\$\{[^}]*\}")
NAMED_VALUES = ("headers", "env")
"""Mappings of which nothing but names of variables is sent."""
NEVER_SENT = ("tracking", "command", "args")
"""Keys of sections and lists that may hold anything that a command line may."""
MAX_CHARS = 200


def shared_config(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Dotted keys and plain values; `headers.Authorization: Bearer ${TOKEN}` is sent as `${TOKEN}`."""
    return dict(_flat(config, ()))


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key not in NEVER_SENT:
                yield from _flat(each, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _flat(each, (*path, str(index)))
    elif isinstance(value, bool | int | float):
        yield ".".join(path), value
    else:
        yield ".".join(path), "null" if value is None else _shown(str(value), path)


def _shown(text: str, path: tuple[str, ...]) -> str:
    variables = VARIABLE.findall(text)
    if any(part in NAMED_VALUES for part in path[:-1]) or SECRET_NAME.search(path[-1]):
        return " ".join(variables) or HIDDEN
    if "://" in text:
        text = _without_query(text)
    return redact_text(text) if len(text) <= MAX_CHARS else f"{digest(text)} ({len(text)} characters)"


def _without_query(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
