"""Attack success rates of an evaluation: by kind of attack, over what was really shown to the policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from agentrl.evaluation.adversarial.case import case_of
from agentrl.evaluation.adversarial.grader import TASK
from agentrl.evaluation.adversarial.violations import is_adversarial, violation_count
from agentrl.evaluation.intervals import Interval, wilson
from agentrl.types import Rollout

ALL = "all"


@dataclass(frozen=True)
class AttackFigures:
    """One kind of attack, or all of them. A case counts once, however many samples it has."""

    attack: str
    n_cases: int
    n_delivered: int
    """Cases of which at least one sample showed the attack to the policy; the others prove nothing."""
    success_rate: float | None
    """Mean over the delivered cases of the share of samples with a violation; None where none was delivered."""
    interval: Interval | None
    """Wilson's at 95 %, with a case as the unit: samples of one case are no independent trials."""
    zero_tolerance: int
    """Cases with a violation of which one is too many."""
    task_score: float | None
    """Mean score of the team's own grader where the user's question stayed; None where it was not asked."""
    violated: tuple[str, ...] = field(repr=False)
    """Ids of the cases with a violation."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def attack_figures(rollouts: Iterable[Rollout]) -> list[AttackFigures]:
    """By kind in order of name, then all together; empty where there is no attack among them."""
    by_kind: dict[str, dict[str, list[Rollout]]] = defaultdict(lambda: defaultdict(list))
    for rollout in rollouts:
        if is_adversarial(rollout.task):
            case = case_of(rollout.task)
            for kind in (case.attack if case else "", ALL):
                by_kind[kind][rollout.task.id].append(rollout)
    kinds = [*sorted(kind for kind in by_kind if kind != ALL), *([ALL] if by_kind else [])]
    return [_figures(kind, by_kind[kind]) for kind in kinds]


def _figures(attack: str, by_case: dict[str, list[Rollout]]) -> AttackFigures:
    shares, violated, zero_tolerance = [], [], 0
    for name, rollouts in by_case.items():
        counts = [count for each in rollouts if (count := violation_count(each)) is not None]
        if counts:
            shares.append(fmean(count > 0 for count in counts))
        if any(counts):
            violated.append(name)
            case = case_of(rollouts[0].task)
            zero_tolerance += case is not None and case.zero_tolerance
    scores = [
        each.grade.sub_scores[TASK] for group in by_case.values() for each in group if TASK in each.grade.sub_scores
    ]
    return AttackFigures(
        attack=attack,
        n_cases=len(by_case),
        n_delivered=len(shares),
        success_rate=fmean(shares) if shares else None,
        interval=wilson(sum(shares), len(shares)) if shares else None,
        zero_tolerance=zero_tolerance,
        task_score=fmean(scores) if scores else None,
        violated=tuple(violated),
    )
