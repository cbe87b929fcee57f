"""What people and graders say of a session, afterwards: read from a request, and folded into the session's columns.

    outcome   {success: true}                         the later one counts
    override  {override: true, by?, override_kind?}   the later one counts
    grade     {score: 0.8}                            the later one counts
    metric    {name: "csat", value: 4}                the later one of a name counts; for metrics that a team adds
    cost      {usd: 0.02}                             added to what the tokens cost
    safety    {violations: 1, zero_tolerance?: true}  added up
    tool      {calls: 3, errors?: 1, infra_errors?: 0}  added up

An outcome, a grade and a safety event may name the `grader_version` that said so; sessions of two versions are never
combined by a gate.

Later by the event's own time `at`, and of the same time by its id: the order of arrival changes nothing. What is wrong
is taken back by another event, never by silence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentrl.gateway.errors import ApiError
from agentrl.gateway.sessions import ABORTED, FAILED, kept_id, text_digest
from agentrl.monitoring.redaction import redact_text
from agentrl.printable import printable
from agentrl.release.records import Arm

MAX_TEXT_CHARS = 200
MAX_COUNT = 1_000_000
FUTURE_SECONDS = 300.0
"""How far a client's clock may be ahead: a later event would outlast all corrections."""
METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,79}")
SUMMED = ("cost", "safety", "tool")
NANO = 1_000_000_000
COMMON = {"event_id", "session_id", "kind", "at"}


@dataclass(frozen=True)
class FeedbackEvent:
    """One event, checked."""

    event_id: str
    """As it is kept: the client's own, with the client's name before it."""
    session_id: str
    client: str
    kind: str
    payload: Mapping[str, Any]
    digest: str
    """Of what the client said: the same id with another digest is a conflict."""
    at: float
    received_at: float


def read_event(body: Any, client: str, now: float) -> FeedbackEvent:
    """An event from a request.

    Raises:
        ApiError: 400, it is none; names the key, what was found and what is allowed.
    """
    if not isinstance(body, dict):
        raise _wrong(None, f"found {body!r:.40}; allowed: an object with event_id, session_id and kind")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise _wrong("kind", f"found {kind!r:.40}; allowed: {', '.join(KINDS)}")
    required, optional = KINDS[kind]
    for key in body:
        if key not in COMMON | required.keys() | optional.keys():
            known = ", ".join([*sorted(COMMON), *required, *optional])
            raise _wrong(key, f"unknown key {key!r:.80} of an event of kind {kind}; allowed: {known}")
    for key in ("event_id", "session_id"):
        if not isinstance(body.get(key), str) or not body[key]:
            raise _wrong(key, f"found {body.get(key)!r:.40}; allowed: a text that is not empty")
    payload: dict[str, Any] = {}
    for key, read in required.items():
        payload[key] = _read(kind, key, body.get(key), read)
    for key, read in optional.items():
        if body.get(key) is not None:
            payload[key] = _read(kind, key, body[key], read)
    if kind == "tool" and payload.get("errors", 0) + payload.get("infra_errors", 0) > payload["calls"]:
        raise _wrong("errors", "found more errors than calls; allowed: errors and infra_errors of those calls")
    at = now if body.get("at") is None else _time(body["at"], now)
    said = json.dumps({key: body[key] for key in sorted(body)}, sort_keys=True, separators=(",", ":"))
    return FeedbackEvent(
        event_id=kept_id(f"{client}:{body['event_id']}"),
        session_id=kept_id(body["session_id"]),
        client=client,
        kind=kind,
        payload=payload,
        digest=text_digest(said),
        at=at,
        received_at=now,
    )


def merged(told: Mapping[str, Any] | None, events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What feedback says so far, and some more events: of each kind the latest, or the sum. In any order the same.

    Each event must come once: whoever calls has just inserted it, in the transaction that keeps the result.

    Args:
        told: {"latest": {kind: {at, event_id, payload}}, "sums": {kind: {key: whole number}}}; None is nothing.
        events: {kind, at, event_id, payload}.
    """
    latest = dict((told or {}).get("latest", {}))
    sums = {kind: dict(values) for kind, values in (told or {}).get("sums", {}).items()}
    judges = dict((told or {}).get("safety_graders", {}))
    for event in events:
        kind, payload = event["kind"], event["payload"]
        if kind == "safety":
            version = payload.get("grader_version", "")
            judges[version] = min(event["at"], judges.get(version, event["at"]))
        if kind in SUMMED:
            known = sums.setdefault(kind, {})
            for key, value in payload.items():
                if key == "grader_version":
                    continue
                # dollars as whole billionths: sums of floats depend on the order
                known[key] = known.get(key, 0) + (round(value * NANO) if key == "usd" else int(value))
            continue
        name = f"metric:{payload['name']}" if kind == "metric" else kind
        before = latest.get(name)
        if before is None or (event["at"], event["event_id"]) > (before["at"], before["event_id"]):
            latest[name] = {"at": event["at"], "event_id": event["event_id"], "payload": dict(payload)}
    return {"latest": latest, "sums": sums} | ({"safety_graders": judges} if judges else {})


def graders_of(told: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """The one grader's version that a session was judged by, and when it first said so.

    None: nobody judged it. Empty: a grader without a version did, or several did, and no one version answers for it.

    Args:
        told: as `merged` makes it; outcome and grade as they count now, and every safety event, as those add up.
    """
    named: dict[str, float] = dict(told.get("safety_graders", {}))
    for kind in ("outcome", "grade"):
        if (event := told.get("latest", {}).get(kind)) is not None:
            version = event["payload"].get("grader_version", "")
            named[version] = min(event["at"], named.get(version, event["at"]))
    if not named:
        return None, None
    versions = sorted(named.keys() - {""})
    return (versions[0], named[versions[0]]) if len(versions) == 1 else ("", min(named.values()))


def folded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a session that feedback decides.

    An answer that broke off, or that the baseline gave as the candidate did not, is no success whatever is said later.

    Args:
        row: of the table `sessions`, with `told` as `merged` makes it.
    """
    told = row["told"] or {}
    latest, sums = told.get("latest", {}), told.get("sums", {})
    extra = {name.partition(":")[2]: each["payload"]["value"] for name, each in latest.items() if ":" in name}
    outcome, grade, override = (latest.get(kind) for kind in ("outcome", "grade", "override"))
    is_fallen_back = row["arm"] == Arm.CANDIDATE.value and row["fallbacks"] > 0
    is_no_success = is_fallen_back or row["status"] in (ABORTED, FAILED)
    safety, tool, cost = (sums.get(kind) for kind in ("safety", "tool", "cost"))
    version, judged_at = graders_of(told)
    is_priced = row["model_cost_usd"] is not None and not row["unpriced"]
    columns: dict[str, Any] = {
        "success": False if is_no_success else outcome and outcome["payload"]["success"],
        "quality": grade and grade["payload"]["score"],
        "safety_violations": int(safety["violations"]) if safety else None,
        "zero_tolerance": bool(safety and safety.get("zero_tolerance")),
        "tool_calls": int(tool["calls"]) if tool else row["proposed_calls"],
        "tool_errors": int(tool.get("errors", 0)) if tool else None,
        "tool_infra_errors": int(tool.get("infra_errors", 0)) if tool else None,
        "cost_usd": row["model_cost_usd"] + (cost["usd"] / NANO if cost else 0.0) if is_priced else None,
        "extra": extra or None,
        "grader_version": version,
        "judged_at": judged_at,
    }
    if override is not None:  # without one it is for the end of the window to say that there was none
        said = override["payload"]
        is_override = said["override"]
        columns |= {
            "human_override": is_override,
            "human_override_kind": said.get("override_kind") if is_override else None,
            "human_override_by": said.get("by") if is_override else None,
            "human_override_at": override["at"] if is_override else None,
        }
    return columns


def _read(kind: str, key: str, value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise _wrong(key, f"{kind}.{key}: found {value!r:.40}; allowed: {error}") from None


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"a whole number from 0 to {MAX_COUNT}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError("a finite number")
    return float(value)


def _amount(value: Any) -> float:
    try:
        amount = _number(value)
    except ValueError:
        amount = math.nan
    if not 0 <= amount <= MAX_COUNT:
        raise ValueError(f"a number of dollars from 0 to {MAX_COUNT}")
    return amount


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return redact_text(printable(value[: 4 * MAX_TEXT_CHARS]))[:MAX_TEXT_CHARS]  # before it is kept anywhere


def _short_text(value: Any) -> str:
    return _text(value)[:80]


def _version(value: Any) -> str:
    """As ids are kept: itself, or its digest where it is long or in other letters."""
    if not isinstance(value, str) or not value:
        raise ValueError("a text that is not empty")
    return kept_id(value)


def _metric(value: Any) -> str:
    if not isinstance(value, str) or not METRIC_NAME.fullmatch(value):
        raise ValueError("a name of letters, digits, _ . and -, at most 80")
    return value


def _time(value: Any, now: float) -> float:
    """Seconds since 1970, or ISO 8601 with a zone."""
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value)
            seconds = read.timestamp() if read.tzinfo else math.nan
        except (ValueError, OverflowError, OSError):
            seconds = math.nan
    else:
        seconds = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= seconds <= now + FUTURE_SECONDS:
        allowed = "seconds since 1970 or ISO 8601 with a zone, not in the future"
        raise _wrong("at", f"found {value!r:.40}; allowed: {allowed}")
    return seconds


def _wrong(param: str | None, message: str) -> ApiError:
    return ApiError(400, message, code="invalid_feedback", param=param)


Reads = Mapping[str, Callable[[Any], Any]]
KINDS: Mapping[str, tuple[Reads, Reads]] = {
    "outcome": ({"success": _bool}, {"grader_version": _version}),
    "override": ({"override": _bool}, {"by": _text, "override_kind": _short_text}),
    "grade": ({"score": _number}, {"grader_version": _version}),
    "metric": ({"name": _metric, "value": _number}, {}),
    "cost": ({"usd": _amount}, {}),
    "safety": ({"violations": _count}, {"zero_tolerance": _bool, "grader_version": _version}),
    "tool": ({"calls": _count}, {"errors": _count, "infra_errors": _count}),
}
"""What an event of a kind must say, and what it may."""
