"""Which sessions count for a gate at a look. Whatever does not count is told, and too much of it decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from agentrl.config.durations import seconds_of
from agentrl.config.metrics import METRICS
from agentrl.config.release import GateConfig
from agentrl.release.gates.look import Look
from agentrl.release.gates.metrics import Parts, reading_of
from agentrl.release.records import Arm, SessionEvidence
from agentrl.release.statistics.proportions import newcombe

UNLIKE_ALPHA = 0.0005
"""Of each side, with which the arms are shown to lose different shares of their sessions."""


class Unit(NamedTuple):
    """A session that counts, and what was read off it. A tuple, as a look makes hundreds of thousands of them."""

    session: SessionEvidence
    parts: Parts

    @property
    def cluster(self) -> str:
        """Units that share it are not independent."""
        return self.session.cluster or self.session.session_id


@dataclass(frozen=True)
class Arms:
    """The sessions of both arms that count, in the order of their assignment."""

    candidate: tuple[Unit, ...]
    baseline: tuple[Unit, ...]
    """In pairs: of the same length, and at the same place stands the partner."""
    is_paired: bool
    told: tuple[str, ...] = ()
    """What does not count, for the reason of the verdict."""
    problem: str = ""
    """Why nothing may be decided, such as too much that is missing; empty where it may."""

    def first(self, n: int) -> Arms:
        """The first n of the candidate, and of the baseline what was assigned up to then."""
        if n >= len(self.candidate):
            return self
        if self.is_paired:
            return replace(self, candidate=self.candidate[:n], baseline=self.baseline[:n])
        last = self.candidate[n - 1].session.at
        before = tuple(unit for unit in self.baseline if unit.session.at <= last)
        return replace(self, candidate=self.candidate[:n], baseline=before)


def in_force(evidence: Iterable[SessionEvidence], look: Look) -> list[SessionEvidence]:
    """Sessions since the share in force began, in an order that depends on nothing but them; each once."""
    began, now = look.started_at, look.seconds
    # control is concurrent: sessions of another time, or under another share, are no comparison
    within = [each for each in evidence if began <= each.at <= now] if look.is_live else evidence
    return sorted(set_of(within), key=lambda each: (each.at, each.session_id, each.arm, each.pair))


def set_of(evidence: Iterable[SessionEvidence]) -> list[SessionEvidence]:
    """Without what is there twice, word for word: an event may be delivered twice."""
    found: list[SessionEvidence] = []
    seen: dict[tuple[str, Arm, str], list[SessionEvidence]] = {}
    for each in evidence:
        key = (each.session_id, each.arm, each.pair)
        same = seen.get(key)
        if same is None:
            seen[key] = [each]
        elif each in same:
            continue
        else:
            same.append(each)
        found.append(each)
    return found


def twice(evidence: Iterable[SessionEvidence]) -> str:
    """The first session that stands there twice with different facts; empty where none does."""
    seen: set[tuple[str, Arm, str]] = set()
    doubled = []
    for each in evidence:
        key = (each.session_id, each.arm, each.pair)
        if key in seen:
            doubled.append(each.session_id)
        seen.add(key)
    return min(doubled, default="")


def counted(gate: GateConfig, evidence: Sequence[SessionEvidence], look: Look) -> Arms:
    """The units of a gate, of evidence as `in_force` gives it.

    Raises:
        ConfigError, ReleaseError: a metric of the team's own cannot be read.
    """
    told: list[str] = []
    lag, now = seconds_of(gate.label_lag) if look.is_live else 0.0, look.seconds
    old_enough = [each for each in evidence if now - each.at >= lag]
    if young := len(evidence) - len(old_enough):
        candidates = sum(each.arm is Arm.CANDIDATE for each in evidence)
        candidates -= sum(each.arm is Arm.CANDIDATE for each in old_enough)
        told.append(f"{young} sessions ({candidates} of the candidate) are younger than {gate.label_lag}")
    read = reading_of(gate)
    is_paired = gate.compare != "absolute" and any(each.pair for each in old_enough)
    if is_paired:
        old_enough, alone = _with_partner(old_enough)
        if alone:
            told.append(f"{alone} sessions have no partner on the other arm")
    all_units = [(each, read(each)) for each in old_enough]
    sides = {arm: [(each, parts) for each, parts in all_units if each.arm is arm] for arm in Arm}
    problem, lost = _missing(gate, sides)
    problem = problem or _outage(gate, old_enough)
    known = {arm: tuple(Unit(each, parts) for each, parts in sides[arm] if parts is not None) for arm in Arm}
    candidate, baseline = known[Arm.CANDIDATE], known[Arm.BASELINE]
    if is_paired:
        candidate, baseline = _pairs(candidate, baseline)
    return Arms(candidate, baseline, is_paired, (*told, *lost), problem)


def _missing(
    gate: GateConfig, sides: Mapping[Arm, Sequence[tuple[SessionEvidence, Parts | None]]]
) -> tuple[str, list[str]]:
    """Why what was not measured is too much; and where it is not, what is to be told of it."""
    lost = {arm: sum(parts is None for _, parts in units) for arm, units in sides.items()}
    if gate.metric in METRICS and METRICS[gate.metric].is_sampled:
        n = len(sides[Arm.CANDIDATE])
        return "", [f"measured on {n - lost[Arm.CANDIDATE]} of the candidate's {n} sessions"] if n else []
    told = []
    for arm in (Arm.CANDIDATE,) if gate.compare == "absolute" else (Arm.CANDIDATE, Arm.BASELINE):
        n = len(sides[arm])
        share = f"{lost[arm]} of the {arm}'s {n} sessions are without {gate.metric}"
        if lost[arm] > gate.max_missing * n:
            return f"{share}, at most {gate.max_missing:.0%} may be", []
        if lost[arm]:
            told.append(share)
    sizes = {arm: len(sides[arm]) for arm in Arm}
    return ("" if gate.compare == "absolute" else _unlike(gate, lost, sizes)), told


def _unlike(gate: GateConfig, lost: Mapping[Arm, int], sizes: Mapping[Arm, int]) -> str:
    """Why arms cannot be compared: one lost far more sessions, and those that broke may be those that are missing."""
    alpha = {"alpha_lower": UNLIKE_ALPHA, "alpha_upper": UNLIKE_ALPHA}
    found = newcombe(lost[Arm.CANDIDATE], sizes[Arm.CANDIDATE], lost[Arm.BASELINE], sizes[Arm.BASELINE], **alpha)
    allowed = gate.max_missing / 4
    if not (found.is_above(allowed) or found.is_below(-allowed)):
        return ""
    shares = " and ".join(f"{lost[arm] / sizes[arm]:.0%} of the {arm}'s" for arm in (Arm.CANDIDATE, Arm.BASELINE))
    return f"{shares} sessions are without {gate.metric}: what is missing is not alike on both arms"


def _outage(gate: GateConfig, evidence: Sequence[SessionEvidence]) -> str:
    """Why infrastructure broke too many of the baseline's sessions; then it is no policy that is to blame.

    Of the baseline alone: where only the candidate's tools break, its calls may be the reason.
    """
    known = [each for each in evidence if each.arm is Arm.BASELINE and each.tool_infra_errors is not None]
    broken = sum((each.tool_infra_errors or 0) > 0 for each in known)
    if gate.compare == "absolute" or broken <= gate.max_missing * len(known):
        return ""
    return f"infrastructure failed in {broken} of the baseline's {len(known)} sessions: an outage is no policy's doing"


def _with_partner(evidence: Sequence[SessionEvidence]) -> tuple[list[SessionEvidence], int]:
    """Evidence of both arms on one thing, and how many had none of the other arm."""
    arms: dict[str, set[Arm]] = {}
    for each in evidence:
        if each.pair:
            arms.setdefault(each.pair, set()).add(each.arm)
    both = [each for each in evidence if len(arms.get(each.pair, ())) == len(Arm)]
    return both, len(evidence) - len(both)


def _pairs(candidate: Sequence[Unit], baseline: Sequence[Unit]) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """Those measured on both arms, in one order."""
    partners = {unit.session.pair: unit for unit in baseline}
    found = [(unit, partners[unit.session.pair]) for unit in candidate if unit.session.pair in partners]
    return tuple(one for one, _ in found), tuple(other for _, other in found)
