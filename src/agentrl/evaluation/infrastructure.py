"""What a batch of rollouts went through: what infrastructure cost it, and how the policy conducted itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from agentrl.types import Outcome, Rollout


def infrastructure_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Counts of what has no vote, and scores that show whether losses and retries follow difficulty.

    `score_of_hit_items` and `score_of_retried` are to be compared with `score_train`: where they differ much, what
    infrastructure breaks is not chosen by chance, and the rest is a biased sample. Both are missing where there is
    nothing to average.
    """
    lost = [rollout for rollout in rollouts if not rollout.is_valid]
    classes = Counter(rollout.failure_class.value for rollout in lost if rollout.failure_class)
    hit = {rollout.task.id for rollout in lost}
    voting = {rollout.task.id for rollout in rollouts if rollout.is_valid}
    return {
        "infra_failed_fraction": len(lost) / len(rollouts) if rollouts else 0.0,
        **{f"infra_failed_{name}": count / len(rollouts) for name, count in sorted(classes.items())},
        "items_hit": float(len(hit)),
        "items_lost": float(len(hit - voting)),
        **_mean_score("score_of_hit_items", [rollout for rollout in rollouts if rollout.task.id in hit]),
        **_mean_score("score_of_retried", [rollout for rollout in rollouts if rollout.retries]),
    }


def _mean_score(name: str, rollouts: Sequence[Rollout]) -> dict[str, float]:
    scores = [rollout.grade.score for rollout in rollouts if rollout.is_valid and rollout.grade.score is not None]
    return {name: fmean(scores)} if scores else {}


def conduct_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """How the policy behaved in the rollouts that have a vote, per episode; empty where there is none."""
    valid = [rollout for rollout in rollouts if rollout.is_valid]
    if not valid:
        return {}
    malformed = sum(rollout.malformed_calls for rollout in valid)
    attempts = malformed + sum(len(rollout.tool_calls) for rollout in valid)
    return {
        **({"malformed_call_fraction": malformed / attempts} if attempts else {}),
        "repeated_ngram_fraction": fmean(map(repeated_ngram_fraction, valid)),
        "policy_failed_fraction": fmean(rollout.outcome is Outcome.POLICY_FAILED for rollout in valid),
        "malformed_calls": fmean(rollout.malformed_calls for rollout in valid),
        "reasoning_tokens": fmean(rollout.reasoning_tokens for rollout in valid),
        "cut_outputs": fmean(rollout.cut_outputs for rollout in valid),
        "retries": fmean(rollout.retries for rollout in valid),
        "cost_usd": fmean(rollout.cost_usd for rollout in valid),
        "mixed_version_fraction": fmean(len(rollout.policy_versions) > 1 for rollout in valid),
    }


def repeated_ngram_fraction(rollout: Rollout, n: int = 4) -> float:
    """Share of the sampled n-grams of tokens that stood earlier in the same turn; 0 where turns are shorter.

    Within turns: that an agent calls the same tool in turn after turn is no degenerate text.
    """
    grams = [
        [turn.token_ids[start : start + n] for start in range(len(turn.token_ids) - n + 1)] for turn in rollout.turns
    ]
    total = sum(map(len, grams))
    return 1 - sum(len(set(each)) for each in grams) / total if total else 0.0
