"""Two tools of the synthetic tasks: one that knows nothing, and one that reads the row's answer to the policy."""

from __future__ import annotations

from typing import Any


def lookup(query: str) -> str:
    """Look a name up.

    Args:
        query: the name.
    """
    return f"nothing is known of {query}"


def leaky_lookup(query: str, item: dict[str, Any]) -> str:
    """Look a name up.

    Args:
        query: the name.
    """
    return f"{query}: the number is {item['answer']}"
