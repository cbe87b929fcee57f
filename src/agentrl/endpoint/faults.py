"""What can go wrong with one attempt, and with a call; what to advise, and how long to wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from agentrl.endpoint.flow import Outcome
from agentrl.errors import AgentRLError

FailureKind = Literal["timeout", "connect", "status", "protocol", "breaker"]
INFRASTRUCTURE_STATUSES = (401, 403, 404, 429)
"""Statuses below 500 that no call of the policy can cause: a wrong key or path must not be learnt."""


class EndpointFailure(AgentRLError):
    """No usable answer after all retries; the room that called turns it into its own error."""

    def __init__(self, message: str, *, kind: FailureKind, status: int | None, attempts: int) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.status = status
        self.attempts = attempts


class Fault(Exception):
    """One attempt failed."""

    def __init__(
        self,
        kind: FailureKind,
        found: str,
        *,
        status: int | None = None,
        is_final: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(found)
        self.kind: FailureKind = kind
        self.found = found
        self.status = status
        self.is_final = is_final
        self.retry_after_seconds = retry_after_seconds

    @property
    def label(self) -> str:
        """The class under which it is counted."""
        return f"http_{self.status}" if self.kind == "status" else self.kind

    @property
    def outcome(self) -> Outcome:
        """What it says about how much the endpoint can take."""
        if self.status in (429, 503):
            return "busy"
        return "lost" if self.kind in ("timeout", "connect") else "fine"


def advice(kind: FailureKind, status: int | None) -> str:
    """What to check, as the end of a message."""
    if status in (401, 403):
        return "; check the endpoint's headers and the environment variables that they name"
    if status == 404:
        return "; check the path of the url"
    if status == 429:
        return "; lower max_concurrency"
    if kind == "status":
        return "; look into the server's log"
    if kind == "connect":
        return "; is the server running, and is the url right?"
    if kind == "breaker":
        return "; calls are sent again as soon as it answers"
    if kind == "timeout":
        return "; raise timeout_seconds, or find out why the server is slow"
    return ""


def connection_fault(error: Exception) -> Fault:
    """Name why a connection could not be made or broke. A TLS error is final: a bad certificate stays bad."""
    names = {type(cause).__name__ for cause in _causes(error)}
    is_tls = any(name.startswith("SSL") for name in names)
    if "AddressRefused" in names:  # it stays refused
        return Fault("connect", str(error), is_final=True)
    if "gaierror" in names:
        found = "no such host"
    elif "ConnectionRefusedError" in names:
        found = "connection refused"
    else:
        found = "the TLS handshake failed" if is_tls else "the connection failed"
    return Fault("connect", f"{found} ({type(error).__name__}: {error})", is_final=is_tls)


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error and what lies behind it, the members of exception groups included."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        if (cause := waiting.pop()) is None or cause in found:
            continue
        found.append(cause)
        waiting += [cause.__cause__, cause.__context__, *getattr(cause, "exceptions", ())]
    return found


def retry_after_seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After header (a number or a date); None where it says nothing usable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return seconds if math.isfinite(seconds) and seconds > 0 else None
