"""Every figure that two policies are compared by, and how it is made of their episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from agentrl.evaluation.comparison.figures import Figure, mean_figures, quantile_figures, ratio_figure
from agentrl.evaluation.comparison.loops import longest_loop, repeated_calls
from agentrl.evaluation.comparison.pairs import Pairs
from agentrl.evaluation.infrastructure import repeated_ngram_fraction
from agentrl.evaluation.metrics import same_tool_repeats
from agentrl.evaluation.pass_at_k import all_of_k, one_of_k
from agentrl.types import FailureClass, Rollout, StopReason

PARTS = {"score_part_": "sub_scores", "holdout_score_of_": "holdout"}
"""What the scores beside the score are called, as in metrics.jsonl, and where a grade has them."""
COST_PER_SUCCESS = "cost_per_success_usd"


def differences(pairs: Pairs) -> dict[str, Figure]:
    """By name; what nothing is known about, such as the cost where no prices are declared, is missing."""
    means = {name: pairs.item_means(value) for name, value in _values(pairs).items()}
    found = dict(zip(means, mean_figures(list(means.values())), strict=True))
    quantiles = quantile_figures(pairs.values(lambda rollout: rollout.seconds), (0.5, 0.95))
    found["latency_p50_seconds"], found["latency_p95_seconds"] = quantiles
    calls, successes = means["tool_calls"], means["success_rate"]
    found["repeats_per_call"] = ratio_figure(means["same_tool_repeats"], calls, of_nothing=0.0)
    found["output_tokens_per_success"] = ratio_figure(means["output_tokens"], successes)
    cost = means["cost_usd"]
    if np.any(cost):
        found[COST_PER_SUCCESS] = ratio_figure(cost, successes)
    else:  # no prices: an episode is not free, its cost is unknown
        del found["cost_usd"]
    return {name: figure for name, figure in {**found, **_lost(pairs)}.items() if figure.n_items}


def _values(pairs: Pairs) -> dict[str, Callable[[Rollout], float | None]]:
    """Of one valid episode, by name."""
    tools = sorted({tool for side in pairs.voting for group in side.values() for tool in _called(pairs, group)})
    return {
        "reward": lambda rollout: rollout.grade.score,
        "success_rate": lambda rollout: is_success(rollout, pairs.pass_threshold),
        "latency_seconds": lambda rollout: rollout.seconds,
        "turns": lambda rollout: len(rollout.turns),
        "output_tokens": lambda rollout: rollout.output_tokens,
        "reasoning_tokens": lambda rollout: rollout.reasoning_tokens,
        "cost_usd": lambda rollout: rollout.cost_usd,
        "tool_calls": lambda rollout: len(rollout.tool_calls),
        **{f"tool_calls_{tool}": _counting(pairs, tool) for tool in tools},
        "tool_errors": lambda rollout: sum(result.is_error for turn in rollout.turns for result in turn.tool_results),
        "malformed_calls": lambda rollout: rollout.malformed_calls,
        "same_tool_repeats": same_tool_repeats,
        "repeated_calls": repeated_calls,
        "repeated_calls_fraction": lambda rollout: repeated_calls(rollout) > 0,
        "loop_fraction": lambda rollout: longest_loop(pairs.tool_sequence(rollout)) > 0,
        "longest_loop": lambda rollout: longest_loop(pairs.tool_sequence(rollout)),
        "repeated_ngram_fraction": _repeated_text,
        **{
            f"{prefix}{name}": _part(field, name)
            for prefix, field in PARTS.items()
            for name in _part_names(pairs, field)
        },
    }


def _repeated_text(rollout: Rollout) -> float | None:
    """None where a server told no token ids."""
    return repeated_ngram_fraction(rollout) if any(turn.token_ids for turn in rollout.turns) else None


def is_success(rollout: Rollout, pass_threshold: float) -> float:
    """1 where the score reaches the threshold, else 0."""
    return float((rollout.grade.score if rollout.grade.score is not None else -math.inf) >= pass_threshold)


def _called(pairs: Pairs, rollouts: Sequence[Rollout]) -> set[str]:
    return {tool for rollout in rollouts for tool in pairs.tool_sequence(rollout)}


def _counting(pairs: Pairs, tool: str) -> Callable[[Rollout], float]:
    return lambda rollout: pairs.tool_sequence(rollout).count(tool)


def _part(field: str, name: str) -> Callable[[Rollout], float | None]:
    return lambda rollout: getattr(rollout.grade, field).get(name)


def _part_names(pairs: Pairs, field: str) -> list[str]:
    """Those that both sides have: a score of one side alone compares nothing."""
    first, second = (
        {name for group in side.values() for rollout in group for name in getattr(rollout.grade, field)}
        for side in pairs.voting
    )
    return sorted(first & second)


def _lost(pairs: Pairs) -> dict[str, Figure]:
    """Share of episodes without a vote, by class, and by stop reason: of all that both sides attempted."""
    everything = [rollout for side in pairs.everything for group in side.values() for rollout in group]
    classes = [each for each in FailureClass if any(rollout.failure_class is each for rollout in everything)]
    reasons = [each for each in StopReason if any(rollout.stop_reason is each for rollout in everything)]
    shares: dict[str, Callable[[Rollout], float]] = {"infra_failed_fraction": lambda rollout: not rollout.is_valid}
    shares |= {f"infra_failed_{each.value}": _failed_by(each) for each in classes}
    shares |= {f"stopped_by_{each.value}": _stopped_by(each) for each in reasons}
    return dict(zip(shares, mean_figures([pairs.attempted_means(value) for value in shares.values()]), strict=True))


def _failed_by(failure: FailureClass) -> Callable[[Rollout], float]:
    return lambda rollout: rollout.failure_class is failure


def _stopped_by(reason: StopReason) -> Callable[[Rollout], float]:
    return lambda rollout: rollout.stop_reason is reason


def pass_at_k(pairs: Pairs) -> dict[str, dict[int, Figure]]:
    """`pass_at_k` (one of k succeeds) and `pass_hat_k` (all k do) for every k that samples allow.

    Items with fewer than k votes on a side are left out.
    """
    counts = [[_successes(pairs, side[task_id]) for side in pairs.voting] for task_id in pairs.task_ids]
    most = max(min(first[0], second[0]) for first, second in counts)
    some: dict[int, list[list[float]]] = {}
    every: dict[int, list[list[float]]] = {}
    for k in sorted({*(2**power for power in range(most.bit_length())), most}):
        whole = [pair for pair in counts if min(pair[0][0], pair[1][0]) >= k]
        some[k] = [[one_of_k(n, c, k) for n, c in pair] for pair in whole]
        every[k] = [[all_of_k(n, c, k) for n, c in pair] for pair in whole]
    figures = mean_figures([*some.values(), *every.values()])
    return {
        "pass_at_k": dict(zip(some, figures[: len(some)], strict=True)),
        "pass_hat_k": dict(zip(every, figures[len(some) :], strict=True)),
    }


def _successes(pairs: Pairs, rollouts: Sequence[Rollout]) -> tuple[int, int]:
    return len(rollouts), sum(is_success(rollout, pairs.pass_threshold) > 0 for rollout in rollouts)
