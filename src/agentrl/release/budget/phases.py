"""Validation, reliability, expansion: what must be shown before money goes into the next one, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentrl.config.release import ReleaseConfig
from agentrl.evaluation.suites import KINDS
from agentrl.release.budget.frame import MIN_DRILLS
from agentrl.release.budget.loaded import WeekBudget
from agentrl.release.budget.standing import Standing
from agentrl.release.records import MAX_ROLLBACK_SECONDS
from agentrl.release.review.trend import ScalingRule


@dataclass(frozen=True)
class Condition:
    """Something that must hold; `missing` says what keeps it from holding, and is empty where it does."""

    what: str
    missing: str

    @property
    def is_met(self) -> bool:
        return not self.missing


@dataclass(frozen=True)
class Phase:
    """One of the three; go: every condition holds."""

    name: str
    buys: str
    """What its money is for."""
    conditions: tuple[Condition, ...]

    @property
    def is_go(self) -> bool:
        """Whether the phase has shown what it was for."""
        return all(condition.is_met for condition in self.conditions)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        conditions = [{**asdict(each), "is_met": each.is_met} for each in self.conditions]
        return {"name": self.name, "buys": self.buys, "is_go": self.is_go, "conditions": conditions}


def phases(config: ReleaseConfig, budget: WeekBudget, rule: ScalingRule, standing: Standing) -> tuple[Phase, ...]:
    """The three, in their order; one that is go opens the next."""
    owners = [name for name in ("ml", "platform", "product") if not getattr(config.owners, name)]
    suites = [kind for kind in KINDS if kind not in standing.suites]
    worst = standing.worst_drill_seconds
    drilled = "" if standing.drills >= MIN_DRILLS else f"{standing.drills} of {MIN_DRILLS} are recorded"
    if not drilled and (worst is None or worst >= MAX_ROLLBACK_SECONDS):
        drilled = "one did not end within 300 s"
    validation = Phase(
        "validation",
        "showing offline that the policy is better, and that it can be taken back",
        (
            Condition("a release has begun", "" if standing.release_id else "none has"),
            Condition("suites: capability, adversarial, frozen", _listed("not measured", suites)),
            Condition("all offline gates pass", _gates(standing, "offline_eval")),
            Condition("rollback drilled three times under 300 s", drilled),
            Condition("three owners are named", _listed("release.owners lacks", owners)),
        ),
    )
    reliability = Phase(
        "reliability",
        "showing on users that it stays better, for a week",
        (
            Condition("validation is go", "" if validation.is_go else "see there"),
            Condition("all canary gates pass", _gates(standing, "canary")),
            Condition("stable for a week", "; ".join(standing.unstable)),
            Condition("the reliability score is not falling", _score(rule)),
        ),
    )
    expansion = Phase(
        "expansion",
        "more traffic, more training, a second workflow",
        (
            Condition("reliability is go", "" if reliability.is_go else "see there"),
            Condition("it pays, loaded", "" if budget.pays else budget.why),
            Condition("more training is not on hold", rule.reason if rule.action == "pause" else ""),
        ),
    )
    return validation, reliability, expansion


def _gates(standing: Standing, stage: str) -> str:
    """What keeps the gates of a stage from passing, by the last look at each."""
    counts = standing.gates.get(stage, {})
    if not counts:
        named = len(standing.configured.get(stage, ()))
        return f"none of {named} was looked at" if named else f"no gate is configured for {stage}"
    bad = [f"{count} {verdict}" for verdict, count in sorted(counts.items()) if verdict != "pass"]
    lacking = len(standing.configured.get(stage, ())) - sum(counts.values())
    return ", ".join(bad + ([f"{lacking} not looked at"] if lacking > 0 else []))


def _score(rule: ScalingRule) -> str:
    if rule.score.direction == "unknown":
        return f"known of {rule.score.weeks} of the 3 weeks that it takes"
    return "it is falling" if rule.score.direction == "falling" else ""


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}: {', '.join(names)}" if names else ""
