"""How far a candidate in shadow went the baseline's way: what the paired evidence of a shadow is worth.

A copy's tools answer from the baseline's trace. Beyond the first call that the trace has no result of, the candidate
works without what it asked for, and what it answers says less about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import and_, select

from agentrl.evaluation.intervals import Interval, wilson
from agentrl.release.records import Arm
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions


@dataclass(frozen=True)
class Parting:
    """One way in which the two parted, and in how many turns it was the first."""

    kind: str
    """other_tool, other_arguments, answered_early, called_on."""
    baseline: str
    """Name of the tool that it called, or `answer`."""
    candidate: str
    turns: int


@dataclass(frozen=True)
class ShadowReport:
    """Of one release. Turns are users' turns that were copied; None where there was none to count."""

    release_id: str
    sessions: int
    sessions_whole: int
    """Of `sessions`, those whose every turn was copied and answered: the pairs that gates read all of."""
    turns: int
    turns_dropped: int
    """The queue was full, or the shadow ended: noted and not copied."""
    turns_failed: int
    """Of `turns`, those that the candidate gave no answer to."""
    failures: Mapping[str, int]
    """By what was found."""
    calls: int
    calls_unmatched: int
    """Answered by a dry run."""
    unmatched_call_rate: float | None
    sessions_matched: int
    """Of `sessions_whole`, those without an unmatched call: their evidence is as good as a replay gets."""
    sessions_matched_interval: Interval | None
    """Wilson's at 95 % of the share of `sessions_whole`."""
    turns_same_calls: int
    turns_same_answer: int
    first_divergence_by_step: Mapping[int, int]
    """Calls that were the same before, to the number of turns that parted there."""
    partings: tuple[Parting, ...] = field(repr=False)
    """The most frequent first."""

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        record = asdict(self)
        record["first_divergence_by_step"] = {str(step): n for step, n in self.first_divergence_by_step.items()}
        return record


def shadow_report(store: Store, workflow: str, release_id: str) -> ShadowReport:
    """From the candidate's rows.

    Raises:
        ReleaseError: the store cannot be read.
    """
    columns = sessions.c
    wanted = and_(
        columns.workflow == workflow,
        columns.release_id == release_id,
        columns.channel == "shadow",
        columns.arm == Arm.CANDIDATE.value,
    )
    with store.read() as connection:
        rows = connection.execute(select(columns.shadow).where(wanted).order_by(columns.session_id)).scalars().all()
    return report_of(release_id, [list((row or {}).get("turns", {}).values()) for row in rows])


def report_of(release_id: str, by_session: Sequence[Sequence[Mapping[str, Any]]]) -> ShadowReport:
    """From the turns of each session, as `gateway/shadow` keeps them."""
    noted = [turn for turns in by_session for turn in turns]
    copied = [turn for turn in noted if not turn["is_dropped"]]
    failures = Counter(str(turn["failure"]) for turn in copied if turn["failure"])
    answered = [turn for turn in copied if not turn["failure"]]
    whole = [turns for turns in by_session if turns and all(not (t["is_dropped"] or t["failure"]) for t in turns)]
    matched = sum(not any(turn["unmatched"] for turn in turns) for turns in whole)
    parted = [turn["divergence"] for turn in answered if turn["divergence"]]
    calls, unmatched = (sum(turn[key] for turn in copied) for key in ("calls", "unmatched"))
    kinds = Counter((each["kind"], each["baseline"], each["candidate"]) for each in parted)
    return ShadowReport(
        release_id=release_id,
        sessions=len(by_session),
        sessions_whole=len(whole),
        turns=len(copied),
        turns_dropped=len(noted) - len(copied),
        turns_failed=sum(failures.values()),
        failures=dict(failures.most_common()),
        calls=calls,
        calls_unmatched=unmatched,
        unmatched_call_rate=unmatched / calls if calls else None,
        sessions_matched=matched,
        sessions_matched_interval=wilson(matched, len(whole)) if whole else None,
        turns_same_calls=len(answered) - len(parted),
        turns_same_answer=sum(bool(turn["is_same_answer"]) for turn in answered),
        first_divergence_by_step=dict(sorted(Counter(each["step"] for each in parted).items())),
        partings=tuple(Parting(*key, n) for key, n in sorted(kinds.items(), key=lambda each: (-each[1], each[0]))),
    )


def report_lines(found: ShadowReport, *, shown: int = 8) -> Iterator[str]:
    """For people."""
    yield f"{found.release_id} in shadow: {_n(found.sessions, 'session')}, {_n(found.turns, 'turn')} copied"
    if found.turns_dropped:
        yield f"  dropped       {_n(found.turns_dropped, 'turn')}: their sessions are no whole evidence"
    if found.turns_failed:
        reasons = ", ".join(f"{reason} {count}" for reason, count in list(found.failures.items())[:shown])
        yield f"  no answer     {found.turns_failed} of {_n(found.turns, 'turn')}: {reasons}"
    rate = "n/a" if found.unmatched_call_rate is None else f"{found.unmatched_call_rate:.1%}"
    yield f"  unmatched     {found.calls_unmatched} of {_n(found.calls, 'call')} ({rate}) had no recorded result"
    if found.sessions_matched_interval is not None:
        low, high = found.sessions_matched_interval
        yield (
            f"  replayed      {found.sessions_matched} of {_n(found.sessions_whole, 'whole session')} without an "
            f"unmatched call [{max(0.0, low):.1%}, {high:.1%}]"
        )
    answered = found.turns - found.turns_failed
    if answered:
        yield f"  same calls    {found.turns_same_calls} of {_n(answered, 'answered turn')}"
        yield f"  same answer   {found.turns_same_answer} of {_n(answered, 'answered turn')}"
    if found.first_divergence_by_step:
        steps = ", ".join(f"after {_n(step, 'call')} {n}" for step, n in found.first_divergence_by_step.items())
        yield f"  parted        {steps}"
        for each in found.partings[:shown]:
            yield f"    {each.turns:>5}  {each.kind}: {each.baseline} -> {each.candidate}"
        if len(found.partings) > shown:
            yield f"           and {len(found.partings) - shown} other ways"


def _n(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
