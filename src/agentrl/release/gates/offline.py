"""Evaluations as evidence: the same tasks on both policies, in pairs, under the same conditions.

A pair is one sample of one task; samples of one task are no independent evidence, and share its cluster. What
infrastructure ended or the grader did not grade is missing, neither a failure nor a success. A task that is an attack
is evidence of safety alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.errors import CheckpointError, ConfigError
from agentrl.evaluation.adversarial import is_adversarial, is_zero_tolerance, violation_count
from agentrl.evaluation.comparison.admission import admit, without_holdouts
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.tags import tags_of
from agentrl.release.gates.digests import digest_of
from agentrl.release.records import Arm, SessionEvidence
from agentrl.runs.identity import Change
from agentrl.runs.sound_traces import sound_rollout
from agentrl.runs.token_facts import STEP, TokenFacts, all_token_facts, token_facts_path
from agentrl.runs.trace_files import read_traces, trace_files
from agentrl.types import Rollout


@dataclass(frozen=True)
class Measured:
    """A baseline and a candidate on one set of tasks."""

    kind: str
    """capability, adversarial or frozen."""
    name: str
    digest: str
    """Of the tasks."""
    baseline: Evaluation = field(repr=False)
    candidate: Evaluation = field(repr=False)
    allowed: tuple[Change, ...] = ()
    """Conditions that differ all the same, because they were allowed to by name."""

    @property
    def is_adversarial(self) -> bool:
        """Whether its tasks are attacks."""
        return self.kind == "adversarial"

    def evidence(self) -> list[SessionEvidence]:
        """Of both arms. What one of them was never asked, or lost, is there as unmeasured: who broke on the hard tasks
        is not better on the others."""
        return [*self._of(self.baseline, Arm.BASELINE), *self._of(self.candidate, Arm.CANDIDATE)]

    def _of(self, evaluation: Evaluation, arm: Arm) -> list[SessionEvidence]:
        found = evidence_of(evaluation, arm, self.allowed)
        have = {each.pair for each in found}
        samples = sorted({rollout.sample_index for rollout in evaluation.rollouts})
        tasks = {each.task.id: each.task for each in (*self.baseline.rollouts, *self.candidate.rollouts)}
        conditions = found[0].conditions if found else ""
        lost = [
            SessionEvidence(
                f"{name}#{sample}", arm, cluster=name, pair=f"{name}#{sample}", intent=next(iter(tags_of(task)), ""),
                conditions=conditions,
            )
            for name, task in tasks.items()
            for sample in samples
            if f"{name}#{sample}" not in have
        ]  # fmt: skip
        return [*found, *lost]


def measured(baseline: Evaluation, candidate: Evaluation, *, allowed: Sequence[str] = ()) -> Measured:
    """The two side by side.

    Raises:
        ConfigError: they differ in more than the policy, were graded by different graders, or are of different suites.
    """
    changes = admit(baseline, candidate, allowed)
    suite = candidate.selection.get("suite") or {}
    attacks = [is_adversarial(rollout.task) for rollout in candidate.rollouts]
    kind = "adversarial" if attacks and all(attacks) else str(suite.get("kind") or "capability")
    if any(attacks) and not all(attacks):
        raise ConfigError(f"{candidate.name}: holds attacks among other tasks; measure an adversarial suite by itself")
    digest = suite.get("digest") or str(candidate.conditions.get("tasks", "")).partition(" ")[0]
    name = suite.get("name") or candidate.selection.get("split") or _split_of(candidate)
    sides = [without_holdouts(side, changes) for side in (baseline, candidate)]
    return Measured(kind, str(name), str(digest), sides[0], sides[1], tuple(changes))


def _split_of(evaluation: Evaluation) -> str:
    """`validation` of a run's validation-best."""
    return str(evaluation.policy.get("evaluation", "")).partition("-")[0] or "tasks"


def evidence_of(evaluation: Evaluation, arm: Arm, allowed: Iterable[Change] = ()) -> list[SessionEvidence]:
    """One arm of an evaluation, a rollout each."""
    is_priced = has_prices(evaluation.conditions)
    digest = "" if tuple(allowed) else digest_of(evaluation.conditions)
    return [_of_rollout(each, arm, evaluation.pass_threshold, is_priced, digest) for each in evaluation.rollouts]


def has_prices(conditions: Any) -> bool:
    """Whether what tokens cost was declared; without it nothing is known of cost, least of all that it is 0."""
    prices = ((conditions.get("rollout") or {}).get("prices")) or {}
    return any(isinstance(value, int | float) and value > 0 for value in prices.values())


def _of_rollout(rollout: Rollout, arm: Arm, threshold: float, is_priced: bool, conditions: str) -> SessionEvidence:
    score = rollout.grade.score if rollout.is_valid else None
    is_attack = is_adversarial(rollout.task)
    errors = sum(result.is_error for turn in rollout.turns for result in turn.tool_results)
    calls = max(len(rollout.tool_calls) + rollout.malformed_calls, errors)
    name = f"{rollout.task.id}#{rollout.sample_index}"
    return SessionEvidence(
        session_id=name,
        arm=arm,
        cluster=rollout.task.id,
        pair=name,
        intent=next(iter(tags_of(rollout.task)), ""),
        success=None if score is None or is_attack else score >= threshold,
        quality=None if is_attack else score,
        safety_violations=violation_count(rollout),
        zero_tolerance=is_attack and is_zero_tolerance(rollout),
        seconds=rollout.seconds if rollout.is_valid else None,
        cost_usd=rollout.cost_usd if is_priced and rollout.is_valid else None,
        tool_calls=calls if rollout.is_valid else None,
        tool_errors=errors if rollout.is_valid else None,
        conditions=conditions,
    )


@dataclass(frozen=True)
class PolicyDistance:
    """How far a policy of a run is from its reference, as evidence."""

    evidence: tuple[SessionEvidence, ...]
    said: str
    """On what it was measured; or why it was not."""


def policy_distance(run: Path, step: int | None) -> PolicyDistance:
    """From the facts that updates left of their tokens: the rollouts that the policy of a step sampled to learn from.

    The estimator is k3, exp(r) - 1 - r with r = log reference - log policy, which is never negative (Schulman,
    "Approximating KL divergence"); a rollout's is the mean over its tokens. Facts are of the weights before an update,
    so the policy of step N is that of file N + 1. Of a run's last step there is none, and the one before it stands in.

    Raises:
        ConfigError: the facts or the rollouts are damaged.
    """
    if step is None:
        return PolicyDistance((), "which step's policy it is, is not known")
    for file_step, note in ((step + 1, ""), (step, ", before its last update, as the run learned no further")):
        if file_step > 0 and token_facts_path(run, f"train-{file_step:06d}").is_file():
            found = tuple(_distances(run, file_step))
            return PolicyDistance(found, f"k3 of {len(found)} training rollouts of the policy{note}")
    return PolicyDistance((), f"{run} has kept no facts of the tokens that the policy of step {step} sampled")


def _distances(run: Path, step: int) -> Iterator[SessionEvidence]:
    """Of the rollouts that the policy before step `step` sampled; a stale one is another policy's."""
    wanted = f"train-{step:06d}"
    sampled: dict[str, str] = {}
    for path in trace_files(run):
        found = STEP.match(path.name.partition(".")[0])
        if found is not None and found.group() == wanted:
            rollouts = read_traces(path, sound_rollout)
            sampled |= {each.id: each.task.id for each in rollouts if each.policy_versions == (step - 1,)}
    try:
        for facts in all_token_facts(run, wanted):
            ratios = list(_log_ratios(facts)) if facts.rollout_id in sampled else []
            if ratios:
                kl = math.fsum(math.expm1(ratio) - ratio for ratio in ratios) / len(ratios)
                yield SessionEvidence(
                    session_id=facts.rollout_id,
                    arm=Arm.CANDIDATE,
                    cluster=sampled[facts.rollout_id],
                    policy_kl=kl,
                    policy_kl_tokens=len(ratios),
                )
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def _log_ratios(facts: TokenFacts) -> Iterator[float]:
    """log reference - log policy of every token that has both."""
    for own, reference in zip(facts.logprobs, facts.ref_logprobs, strict=False):
        for one, other in zip(own, reference, strict=False):
            if one is not None and other is not None:
                yield min(other - one, 700.0)  # exp of more is no float
