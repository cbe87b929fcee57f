"""What a gateway tells of a turn once its answer is with the user, and who wants to know.

Shadow copies, the live KL and whatever else watches are given a `FinishedTurn`, on the gateway's own loop and after
the last byte was sent: a watcher puts what it needs into a bounded queue and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrl.release.records import Arm, Routing


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer."""

    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class FinishedTurn:
    """One request that was answered whole."""

    workflow: str
    session_id: str
    client: str
    """Name of the API key; empty where none is asked for."""
    cluster: str
    intent: str
    arm: Arm
    is_forced: bool
    release_id: str
    """Under which the session was assigned."""
    routing: Routing | None
    """In force when the answer ended; a shadow's candidate is `routing.candidate_upstream`."""
    upstream: str
    """Who answered: the baseline, where a candidate failed."""
    is_fallback: bool
    path: str
    """chat/completions or responses."""
    request: Mapping[str, Any] = field(repr=False)
    """The client's body: model, messages (or input), tools, sampling."""
    reply: Mapping[str, Any] = field(repr=False)
    """chat/completions: the assistant's message {role, content, tool_calls}, put together where it was streamed;
    responses: the response object."""
    finish_reason: str
    """Empty where the server gave none."""
    usage: Usage | None
    at: float
    """When the request came, in seconds since 1970."""
    seconds: float
    """From the request's last byte to the answer's."""


Watcher = Callable[[FinishedTurn], None]
"""Must return at once; what it raises is counted and goes no further."""
