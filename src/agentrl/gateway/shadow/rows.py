"""The candidate's row of a session in shadow, beside the baseline's: made of all its turns, whoever copied them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from sqlalchemy import and_, select, text

from agentrl.gateway.sessions import CLOSED, FAILED, KEY
from agentrl.gateway.shadow.copies import CopiedTurn
from agentrl.gateway.turns import FinishedTurn
from agentrl.release.records import Arm
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions

MAX_TURNS = 200
"""Of one session that are kept; later ones are not."""


def keep_copy(
    store: Store, told: FinishedTurn, copied: CopiedTurn, *, pass_threshold: float | None = None
) -> list[dict[str, Any]]:
    """Add a turn to the candidate's row; returns all turns of it, as records.

    The row is written as closed: nobody talks to the candidate, and the pair counts once the baseline's is closed too.
    A turn that comes again, as the user asked again for an answer, takes the place of the former.

    Args:
        pass_threshold: a score at or above it is a success; None where nothing is graded.

    Raises:
        ReleaseError: the store cannot be written.
    """
    routing = told.routing
    key = {
        "workflow": told.workflow,
        "release_id": told.release_id,
        "session_id": told.session_id,
        "arm": Arm.CANDIDATE.value,
    }
    of_session = and_(
        *(sessions.c[name] == key[name] for name in ("workflow", "release_id", "session_id")),
    )
    with store.write() as connection:
        if not store.is_sqlite:  # a row that is not there yet cannot be locked: two replicas may both begin it
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _lock(key)})
        rows = {row["arm"]: row for row in connection.execute(select(sessions).where(of_session)).mappings()}
        mine, other = rows.get(Arm.CANDIDATE.value), rows.get(Arm.BASELINE.value)
        turns = dict((mine["shadow"] or {}).get("turns", {})) if mine else {}
        if len(turns) < MAX_TURNS or str(copied.number) in turns:
            turns[str(copied.number)] = copied.to_record()
        ordered = [turns[number] for number in sorted(turns, key=int)]
        first = min(turn["at"] for turn in ordered)
        row = {
            **key,
            "channel": "shadow",
            "bundle": routing.candidate_bundle if routing else "",
            "upstream": routing.candidate_upstream if routing else "",
            "client": told.client,
            "cluster": told.cluster,
            "intent": told.intent,
            "assigned_at": other["assigned_at"] if other else first,  # in one window of evidence with its partner
            "last_at": max(turn["at"] for turn in ordered),
            "shadow": {"turns": turns},
            "recorded_at": None,  # the session log is told of it anew
            **columns(ordered, pass_threshold=pass_threshold),
        }
        row["closed_at"] = row["last_at"]
        changed = {name: value for name, value in row.items() if name not in KEY}
        insert = store.insert(sessions).values(**row)
        connection.execute(insert.on_conflict_do_update(index_elements=list(KEY), set_=changed))
    return ordered


def columns(turns: Sequence[Mapping[str, Any]], *, pass_threshold: float | None = None) -> dict[str, Any]:
    """What a session's turns come to. Of one with a dropped turn sums are not known: they stay null, never less."""
    is_whole = not any(turn["is_dropped"] for turn in turns)
    has_failed = any(turn["failure"] for turn in turns)
    quality = mean_score(turns, "score") if is_whole else None
    success = None if quality is None or pass_threshold is None else _all_pass(turns, pass_threshold)
    calls = sum(turn["calls"] for turn in turns)
    cost = _sum(turns, "cost_usd") if is_whole else None
    judged = [turn for turn in turns if turn["score"] is not None]
    versions = {turn.get("grader_version", "") for turn in judged}
    return {
        "grader_version": (versions.pop() if len(versions) == 1 else "") if judged else None,
        "judged_at": min((turn["at"] for turn in judged), default=None),
        "status": FAILED if has_failed else CLOSED,
        "requests": sum(turn["requests"] for turn in turns),
        "errors": sum(bool(turn["failure"]) for turn in turns),
        "seconds": _sum(turns, "seconds") if is_whole else None,
        "tokens_in": _sum(turns, "tokens_in") if is_whole else None,
        "tokens_out": _sum(turns, "tokens_out") if is_whole else None,
        "model_cost_usd": cost,
        "cost_usd": cost,
        "tool_calls": calls if is_whole and not has_failed else None,
        "proposed_calls": calls,
        "quality": quality,
        "success": False if has_failed else success,
    }


def mean_score(turns: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Of all turns; None where one has no score."""
    scores = [turn[key] for turn in turns]
    return None if None in scores or not scores else fmean(scores)


def _lock(key: Mapping[str, str]) -> int:
    """A number of PostgreSQL's advisory locks, 64 bits with a sign."""
    digest = hashlib.sha256("/".join(key[name] for name in KEY).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _all_pass(turns: Iterable[Mapping[str, Any]], threshold: float) -> bool:
    return all(turn["score"] >= threshold for turn in turns)


def _sum(turns: Iterable[Mapping[str, Any]], key: str) -> Any:
    values = [turn[key] for turn in turns]
    return None if None in values else sum(values)
