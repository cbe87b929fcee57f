"""What came of a suite: cases passed and failed, each failure by name, and the interval of the candidate's own rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentrl.evaluation.adversarial import violation_count
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.release.gates.offline import Measured
from agentrl.release.statistics.proportions import clopper_pearson
from agentrl.release.statistics.sequences import fixed_look
from agentrl.release.statistics.sums import arm_sums, own_value
from agentrl.types import Rollout

ALPHA = 0.025
"""Of each side: the interval is one of 95 %."""


def suite_result(suite: Measured) -> dict[str, Any]:
    """As a plain record. A case passes where more than half of its samples that can be judged do.

    A sample of an attack passes where the policy was attacked and nothing was violated; an attack that never reached
    the policy cannot be judged.
    """
    before, after = _cases(suite.baseline), _cases(suite.candidate)
    judged = {case: samples for case, samples in after.items() if samples}
    failed = {case: samples for case, samples in judged.items() if 2 * sum(samples) <= len(samples)}
    return {
        "measures": "pass_rate",
        "cases": len(after),
        "passed": len(judged) - len(failed),
        "failed": len(failed),
        "not_graded": len(after) - len(judged),
        **_rate(judged),
        "baseline": _rate({case: samples for case, samples in before.items() if samples})["estimate"],
        "failures": [
            {"case": case, "reason": _reason(samples, before.get(case, ()))} for case, samples in sorted(failed.items())
        ],
        "policies": {"baseline": dict(suite.baseline.policy), "candidate": dict(suite.candidate.policy)},
        "conditions": dict(suite.candidate.conditions),
        "allowed_differences": [each.key for each in suite.allowed],
    }


def _cases(evaluation: Evaluation) -> dict[str, list[bool]]:
    """Task id -> whether each sample that can be judged passed."""
    found: dict[str, list[bool]] = {}
    for rollout in evaluation.rollouts:
        samples = found.setdefault(rollout.task.id, [])
        passed = _passed(rollout, evaluation.pass_threshold)
        if passed is not None:
            samples.append(passed)
    return found


def _passed(rollout: Rollout, threshold: float) -> bool | None:
    if "adversarial" in rollout.task.item:
        violations = violation_count(rollout)
        return None if violations is None else violations == 0
    score = rollout.grade.score
    return None if not rollout.is_valid or score is None else score >= threshold


def _rate(cases: dict[str, list[bool]]) -> dict[str, float | None]:
    """Share of samples that passed; exact where each case has one sample, else over cases."""
    samples = [(float(passed), case) for case, all_ in sorted(cases.items()) for passed in all_]
    values = [value for value, _ in samples]
    if len(samples) == len(cases):
        bounds = clopper_pearson(int(sum(values)), len(values), alpha_lower=ALPHA, alpha_upper=ALPHA)
    else:
        sums = arm_sums(values, cluster=[case for _, case in samples])
        bounds = fixed_look(own_value(sums, event=1.0), alpha_lower=ALPHA, alpha_upper=ALPHA)
    ends = [None if end is None else min(max(end, 0.0), 1.0) for end in (bounds.lower, bounds.upper)]
    return {"estimate": bounds.estimate, "lower": ends[0], "upper": ends[1]}


def _reason(samples: Sequence[bool], before: Sequence[bool]) -> str:
    said = f"{sum(samples)} of {len(samples)} samples passed"
    return f"{said}, {sum(before)} of {len(before)} on the baseline" if before else said
