"""People's word on a release's next step, bound to what they saw.

An approval names a hash of the release, its version, its bundle, its rules and the last verdict of every gate by
outcome. A look that finds the same again changes nothing of it; a gate that turns, another bundle, another share, or
time (`release.approval_valid`) does, and then the approval counts no longer. Names are what people call themselves:
who may run the command on this machine is the machine's business.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from sqlalchemy import select

from agentrl.config.durations import seconds_of
from agentrl.errors import ConfigError
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.rules import rules_digest, rules_of
from agentrl.release.lifecycle.states import FORWARD, check_legal
from agentrl.release.lifecycle.verdicts import latest_verdicts
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from agentrl.release.store import tables
from agentrl.strict_json import canonical_json


def seen(place: ReleasePlace, release: Release, to: ReleaseState) -> dict[str, Any]:
    """What somebody approves who approves this step now."""
    stages = list(FORWARD)[: list(FORWARD.values()).index(to) + 1]
    return {
        "release": release.id,
        "version": release.version,
        "to": str(to),
        "candidate_bundle": release.candidate_bundle,
        "baseline_bundle": release.baseline_bundle,
        "share_percent": release.share_percent,
        "rules": rules_digest(release),
        "verdicts": sorted(
            [str(stage), verdict.gate, str(verdict.verdict), verdict.gate_digest]
            for stage in stages
            for verdict in latest_verdicts(place, release, stage).values()
        ),
    }


def seen_hash(context: dict[str, Any]) -> str:
    """Of `seen`."""
    return f"sha256:{hashlib.sha256(canonical_json(context)).hexdigest()}"


def approve(
    place: ReleasePlace,
    release_id: str,
    to: ReleaseState,
    *,
    approver: str,
    now: float,
    is_denied: bool = False,
    reason: str = "",
) -> str:
    """Keep a person's yes or no to the step as it stands now; returns the hash of what was seen.

    Raises:
        ConfigError: nobody is named, or the release's rules refuse this person.
        ReleaseError: the release cannot take the step, or the word cannot be kept.
    """
    if not approver.strip():
        raise ConfigError("an approval needs a name")
    with ledger(place) as books:
        release = read_release(place, release_id)
        check_legal(release.id, release.state, to)
        if to not in FORWARD.values():
            raise ConfigError(f"--to {to}: found a way back, which needs no approval; allowed: {_words()}")
        if not is_denied and rules_of(release).approver_is_other and _letters(approver) == _letters(release.started_by):
            raise ConfigError(
                f"{approver} started {release.id} and cannot approve it (release.approver_is_other): ask somebody else"
            )
        context = seen(place, release, to)
        row = {
            "id": f"a-{secrets.token_hex(8)}",
            "subject": f"{release.id}:{to}",
            "context_hash": seen_hash(context),
            "decision": "denied" if is_denied else "approved",
            "approver": approver,
            "at": now,
            "expires_at": now + seconds_of(rules_of(release).approval_valid),
            "used_at": None,
            "record": {"seen": context, "reason": reason},
        }
        books.record("approval", actor=approver, now=now, release_id=release.id, changes={"approvals": [row]})
    return str(row["context_hash"])


def standing_approval(place: ReleasePlace, release: Release, to: ReleaseState, now: float) -> dict[str, Any] | None:
    """The row of the last yes to exactly this, unless it expired, was used, or a no came after it."""
    return _last_word(place, release, to, now)[0]


def approval_gap(place: ReleasePlace, release: Release, to: ReleaseState, now: float) -> str:
    """Why the step has no approval; empty where it has."""
    row, gap = _last_word(place, release, to, now)
    return "" if row else f"{gap}; `agentrl release approve CONFIG {release.id} --to {to}`"


def _last_word(
    place: ReleasePlace, release: Release, to: ReleaseState, now: float
) -> tuple[dict[str, Any] | None, str]:
    table = tables.approvals
    with place.store.read() as connection:
        rows = connection.execute(
            select(table).where(table.c.subject == f"{release.id}:{to}").order_by(table.c.at, table.c.id)
        ).all()
    if not rows:
        return None, f"nobody has approved {to}"
    last = rows[-1]
    if last.decision != "approved":
        return None, f"{last.approver} said no to {to}"
    if last.used_at is not None:
        return None, f"{last.approver}'s approval of {to} was used before"
    if last.expires_at <= now or last.at > now:
        return None, f"{last.approver}'s approval of {to} has expired"
    if last.context_hash != seen_hash(seen(place, release, to)):
        return None, f"what {last.approver} approved for {to} has changed since"
    return dict(last._mapping), ""


def _words() -> str:
    return ", ".join(FORWARD.values())


def _letters(name: str) -> str:
    """Of a name, what people read: a space or a capital more makes nobody another person."""
    return "".join(letter for letter in name if letter.isalnum()).casefold()
