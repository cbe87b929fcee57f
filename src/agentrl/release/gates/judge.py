"""One look at one gate, or at all gates of a stage. Pure: the same inputs give the same verdicts, byte for byte.

Two directions, each with its own error. A gate passes when its bound on the side of harm clears the margin, at
`alpha_promote`: a release goes on only if every gate passes, which needs no correction for their number. It fails when
the bound on the other side shows harm (beyond zero for hard gates, beyond the margin for soft ones), at
`alpha_rollback` over the number of gates, as any of them brings the release back. Else it is inconclusive: what is
missing, too young, too few or not computable never passes and never raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agentrl import __version__
from agentrl.config.release import GateConfig
from agentrl.release.gates.arms import counted, in_force, twice
from agentrl.release.gates.digests import evidence_digest, gate_digest
from agentrl.release.gates.look import Look
from agentrl.release.gates.metrics import program_digest, reading_of
from agentrl.release.gates.outcomes import Found, margin_of, of_arms, of_drills
from agentrl.release.gates.traffic import split_problem
from agentrl.release.records import Arm, Outcome, SessionEvidence, Verdict

__all__ = ["Look", "Taken", "judge", "judge_all", "take"]


@dataclass(frozen=True)
class Taken:
    """Evidence as all gates of one look read it: put in order, counted and digested once, not once a gate."""

    sessions: list[SessionEvidence]
    digest: str
    n_candidate: int
    n_baseline: int
    problem: str
    """Why it is no evidence, whatever the gate; empty where it is."""


Evidence = Sequence[SessionEvidence] | Taken


def take(evidence: Sequence[SessionEvidence], look: Look) -> Taken:
    """What several calls at one look share; verdicts are the same with it and without."""
    sessions = in_force(evidence, look)
    problem = ""
    if doubled := twice(sessions):
        problem = f"the session {doubled} stands twice in the evidence, with different facts"
    elif len(made_under := {each.conditions for each in sessions}) > 1:
        problem = f"the sessions were made under {len(made_under)} sets of graders, tools and prompts, never combined"
    n_candidate = sum(each.arm is Arm.CANDIDATE for each in sessions)
    return Taken(sessions, _data_digest(sessions, look), n_candidate, len(sessions) - n_candidate, problem)


def judge_all(gates: Iterable[GateConfig], evidence: Evidence, look: Look) -> list[Verdict]:
    """Verdicts of the gates of `look.stage`, in their order. The split of the traffic is checked first.

    Args:
        evidence: sessions, or what `take` made of them for this look.

    Raises:
        ConfigError, ReleaseError: a metric of the team's own cannot be imported, or raised.
    """
    here = [gate for gate in gates if look.stage in gate.stages]
    taken = evidence if isinstance(evidence, Taken) else take(evidence, look)
    problem = split_problem(taken.sessions, look)
    return [
        _verdict(gate, _look_at(gate, taken, look, len(here), problem), look, taken.digest, len(here)) for gate in here
    ]


def judge(gate: GateConfig, evidence: Evidence, look: Look, *, gates: int = 1) -> Verdict:
    """One look at one gate, whatever its stages are; the split of the traffic is not checked.

    Args:
        evidence: sessions, or what `take` made of them for this look.
        gates: number of gates that share `alpha_rollback`.

    Raises:
        ConfigError, ReleaseError: a metric of the team's own cannot be imported, or raised.
    """
    taken = evidence if isinstance(evidence, Taken) else take(evidence, look)
    return _verdict(gate, _look_at(gate, taken, look, gates, ""), look, taken.digest, gates)


def _data_digest(sessions: Sequence[SessionEvidence], look: Look) -> str:
    return evidence_digest(
        sessions,
        share_percent=look.share_percent,
        started_at=look.started_at,
        drills=sorted(look.drills),
        assigned=look.assigned,
    )


def _look_at(gate: GateConfig, taken: Taken, look: Look, gates: int, invalid: str) -> Found:
    if gate.unit == "drill":
        return of_drills(gate, look)
    n_candidate, n_baseline = taken.n_candidate, taken.n_baseline
    if event := _hard_event(gate, taken.sessions):
        return Found(Outcome.FAIL, event, n_candidate=n_candidate, n_baseline=n_baseline, test="first_event")
    if invalid := taken.problem or invalid:
        reason = f"{invalid}; {look.told}" if look.told else invalid
        return Found(Outcome.INVALID, reason, n_candidate=n_candidate, n_baseline=n_baseline)
    arms = counted(gate, taken.sessions, look)
    found = of_arms(gate, arms, look, gates)
    reason = "; ".join((found.reason, *arms.told, *([look.told] if look.told else [])))
    outcome = found.outcome
    if outcome is Outcome.INCONCLUSIVE and gate.on_missing == "fail" and not arms.candidate:
        outcome, reason = Outcome.FAIL, f"{reason}; on_missing: fail"
    if found.bounds is not None:
        return replace(found, outcome=outcome, reason=reason)
    n_baseline = 0 if gate.compare == "absolute" else len(arms.baseline)
    return replace(found, outcome=outcome, reason=reason, n_candidate=len(arms.candidate), n_baseline=n_baseline)


def _hard_event(gate: GateConfig, sessions: Sequence[SessionEvidence]) -> str:
    """What fails a gate by itself, at any number of sessions; empty where nothing does."""
    own = [each for each in sessions if each.arm is Arm.CANDIDATE]
    if gate.metric == "safety_violations":
        forbidden = sorted(each.session_id for each in own if each.zero_tolerance and (each.safety_violations or 0) > 0)
        if forbidden:
            return f"zero tolerance: {len(forbidden)} violations by the candidate, the first in {forbidden[0]}"
    if gate.fail_at_events is not None:
        read = reading_of(gate)
        events = [each.session_id for each in own if (parts := read(each)) is not None and parts[0][0] > 0]
        if len(events) >= gate.fail_at_events:
            nth = events[gate.fail_at_events - 1]
            return (
                f"{len(events)} sessions of the candidate with an event, fail_at_events is {gate.fail_at_events}: {nth}"
            )
    return ""


def _verdict(gate: GateConfig, found: Found, look: Look, data_digest: str, gates: int) -> Verdict:
    bounds = found.bounds
    if gate.compare == "absolute":
        scale = "value"
    else:
        scale = "ratio" if gate.margin is not None and gate.margin.relative is not None else "difference"
    estimate = bounds.estimate if bounds else found.value
    return Verdict(
        gate=gate.name,
        stage=look.stage,
        release_id=look.release_id,
        at=look.at_text(),
        look_no=look.look_no,
        n_candidate=found.n_candidate,
        n_baseline=found.n_baseline,
        estimate=estimate,
        lower=bounds.lower if bounds else None,
        upper=bounds.upper if bounds else None,
        candidate=_rounded(estimate if scale == "value" or bounds is None else bounds.candidate),
        baseline=_rounded(bounds.baseline if bounds else None),
        scale=scale,
        margin=margin_of(gate),
        alpha=gate.alpha_promote,
        test=found.test or gate.test,
        verdict=found.outcome,
        reason=found.reason,
        severity=gate.severity,
        data_digest=data_digest,
        gate_digest=gate_digest(gate, program=program_digest(gate)),
        code_version=__version__,
        alpha_rollback=gate.alpha_rollback / gates,
        adjusted=found.adjusted,
    )


def _rounded(value: float | None) -> float | None:
    """To twelve digits, as all numbers of a verdict are: the last bits differ between machines."""
    return None if value is None else float(f"{value:.12g}")
