"""What the hold-out shows of a reward model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import ArrayLike

from agentrl.config import CalibrationGateConfig
from agentrl.evaluation.intervals import percentile_interval, resampled_means, wilson
from agentrl.evaluation.rank_correlation import pearson, spearman
from agentrl.reward_model import calibration as cal
from agentrl.reward_model.data_file import Examples
from agentrl.reward_model.episodes import Episode
from agentrl.reward_model.gate import SPREAD, Report, failures
from agentrl.reward_model.split import half

GUIDANCE = 2000
"""Comparisons below which reward models of Gao et al. (arXiv:2210.10760) were near chance; a hint, not a rule."""
MATCHED = 0.1
"""Episodes are of equal length where they differ by at most this share of the longer one."""


def measure(
    examples: Examples, rewards: Mapping[str, float], gate: CalibrationGateConfig, *, objective: str, n_train: int
) -> Report:
    """All figures of a hold-out, and the gate's verdict.

    Args:
        rewards: of every episode, as the model says them; an episode without one is left out with its comparisons.
        objective: what was trained; of `pairs` the comparisons are judged, of `scores` the episodes.
        n_train: examples that it learned from.
    """
    episodes = [episode for episode in examples.episodes.values() if episode.id in rewards]
    is_first_half = half(list(examples.episodes.values()))
    reward = cal.floats([rewards[episode.id] for episode in episodes])
    mean, std = float(reward.mean()), float(reward.std())
    report: Report = {
        "objective": objective,
        "train_examples": n_train,
        "few_examples": n_train < GUIDANCE,
        "episodes": len(episodes),
        "tasks": len({episode.task_id for episode in episodes}),
        "not_scored": len(examples.episodes) - len(episodes),
        "reward": {"mean": mean, "std": std, "min": float(reward.min()), "max": float(reward.max())},
        "length": _length(episodes, reward),
        "comparisons": _comparisons(examples, rewards, is_first_half),
        "scores": _scores(episodes, rewards, is_first_half, objective),
        "raters": _raters(examples),
    }
    judged = report["scores" if objective == "scores" else "comparisons"] or {}
    report["calibration"] = {
        "mean": mean,
        "std": std if std > SPREAD else 1.0,
        "centre": 0.0 if objective == "scores" else mean,
        "temperature": judged.get("temperature", 1.0),
    }
    report["gate"] = {"limits": gate.model_dump(), "failures": failures(report, gate)}
    return report


def _comparisons(examples: Examples, rewards: Mapping[str, float], is_first_half: Callable[[str], bool]) -> Report:
    """Figures of the pairs; the temperature is fitted on one half of the groups and judged on the other."""
    kept = [each for each in examples.comparisons if {each.first, each.second} <= rewards.keys()]
    if not kept:
        return {"n": 0}
    sides = [examples.sides(each) for each in kept]
    margins = cal.floats([rewards[better.id] - rewards[worse.id] for better, worse in sides])
    fitted = np.array([is_first_half(each.task_id) for each in kept])
    temperature = cal.fit_temperature(margins[fitted]) if fitted.any() else 1.0
    right = cal.is_right(margins)
    tokens = cal.floats([(better.tokens, worse.tokens) for better, worse in sides])
    return {
        "n": len(kept),
        "tasks": len({each.task_id for each in kept}),
        **_share(right, [each.task_id for each in kept]),
        "raw": _claims(margins),
        "temperature": temperature,
        "fitted_on": int(fitted.sum()),
        "before_scaling": _claims(margins[~fitted]),
        "scaled": _claims(margins[~fitted] / temperature),
        "by_length_difference": _by_length(right, tokens),
        "by_turns": _by(right, [max(better.n_turns, worse.n_turns) for better, worse in sides]),
        **_length_matched(right, tokens),
    }


def _share(right: cal.Floats, tasks: Sequence[str]) -> Report:
    """Accuracy with Wilson's interval, and with whole tasks drawn again: pairs of one task are not independent."""
    names, index = np.unique(np.asarray(tasks), return_inverse=True)
    sums = np.stack([np.bincount(index, weights=right), np.bincount(index)], axis=1)
    drawn = resampled_means(sums, resamples=2000) if len(names) > 1 else sums
    by_task = percentile_interval(drawn[:, 0] / drawn[:, 1]) if len(names) > 1 else wilson(0, 0)
    interval = wilson(float(right.sum()), len(right))
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "accuracy_low_by_task": by_task[0],
        "accuracy_high_by_task": by_task[1],
    }


def _claims(margins: ArrayLike) -> Report:
    """Of margins in logits: what was claimed against what came true."""
    m = cal.floats(margins)
    if not len(m):
        return {"n": 0}
    confidence, right = cal.sigmoid(np.abs(m)), cal.is_right(m)
    mass = cal.reliability(confidence, right, equal_mass=True)
    width = cal.reliability(confidence, right, equal_mass=False)
    return {
        "n": len(m),
        "accuracy": float(right.mean()),
        "nll": cal.nll(m),
        "brier": cal.brier(confidence, right),
        "ece": cal.ece(mass),
        "ece_of_chance": cal.ece_of_chance(mass),
        "ece_equal_width": cal.ece(width),
        "reliability": [asdict(each) for each in mass],
        "reliability_equal_width": [asdict(each) for each in width],
    }


def _by(right: cal.Floats, keys: Sequence[int]) -> list[Report]:
    """Accuracy by a count."""
    found = []
    for key in sorted(set(keys)):
        part = right[np.asarray(keys) == key]
        low, high = wilson(float(part.sum()), len(part))
        found.append({"value": key, "n": len(part), "accuracy": float(part.mean()), "low": low, "high": high})
    return found


def _by_length(right: cal.Floats, tokens: cal.Floats) -> list[Report]:
    """Accuracy by fifths of how much longer the better episode is than the worse one, in tokens."""
    difference = tokens[:, 0] - tokens[:, 1]
    found = []
    for part in np.array_split(np.argsort(difference, kind="stable"), min(5, len(right))):
        low, high = wilson(float(right[part].sum()), len(part))
        row = {"from": float(difference[part].min()), "to": float(difference[part].max()), "n": len(part)}
        found.append({**row, "accuracy": float(right[part].mean()), "low": low, "high": high})
    return found


def _length_matched(right: cal.Floats, tokens: cal.Floats) -> Report:
    """Accuracy where length gives no hint: on pairs of equal length, and with both directions counted alike.

    A model that goes by length alone is right always where the better one is longer, never where it is shorter, and
    by chance where both are as long.
    """
    difference = tokens[:, 0] - tokens[:, 1]
    matched = np.abs(difference) <= MATCHED * tokens.max(axis=1)
    longer, shorter = right[difference > 0], right[difference < 0]
    balanced = (float(longer.mean()) + float(shorter.mean())) / 2 if len(longer) and len(shorter) else None
    return {
        "length_matched": int(matched.sum()),
        "length_matched_accuracy": float(right[matched].mean()) if matched.any() else None,
        "length_balanced_accuracy": balanced,
        "better_is_longer": float((difference > 0).mean()),
    }


def _length(episodes: Sequence[Episode], reward: cal.Floats) -> Report:
    tokens = [episode.tokens for episode in episodes]
    tasks = [episode.task_id for episode in episodes]
    scored = [index for index, episode in enumerate(episodes) if episode.score is not None]
    own = [episodes[index].score or 0.0 for index in scored]
    return {
        "correlation": pearson(reward, tokens),
        "correlation_within_task": pearson(cal.within(reward, tasks), cal.within(tokens, tasks)),
        "correlation_of_score": pearson(own, [tokens[index] for index in scored]),
    }


def _scores(
    episodes: Sequence[Episode], rewards: Mapping[str, float], is_first_half: Callable[[str], bool], objective: str
) -> Report | None:
    """Figures against the episodes' own scores; probabilities only where the reward was trained to be a logit."""
    scored = [episode for episode in episodes if episode.score is not None]
    if len(scored) < 2:
        return None
    targets = cal.floats([episode.score or 0.0 for episode in scored])
    z = cal.floats([rewards[episode.id] for episode in scored])
    found: Report = {
        "n": len(scored),
        "tasks": len({episode.task_id for episode in scored}),
        "spearman": spearman(z.tolist(), targets.tolist()),
        "pearson": pearson(z, targets),
    }
    if objective != "scores":
        return found
    fitted = np.array([is_first_half(episode.task_id) for episode in scored])
    temperature = cal.fit_temperature(z[fitted], targets[fitted]) if fitted.any() else 1.0
    found |= {"temperature": temperature, "fitted_on": int(fitted.sum()), "raw": _estimates(z, targets)}
    found |= {"before_scaling": _estimates(z[~fitted], targets[~fitted])}
    return {**found, "scaled": _estimates(z[~fitted] / temperature, targets[~fitted])}


def _estimates(logits: cal.Floats, targets: cal.Floats) -> Report:
    """Of logits against scores: squared error, and the mean score by decile of the estimate."""
    if not len(logits):
        return {"n": 0}
    p = cal.sigmoid(logits)
    deciles = cal.reliability(p, targets, equal_mass=True)
    return {
        "n": len(p),
        "rmse": math.sqrt(cal.brier(p, targets)),
        "brier": cal.brier(p, targets),
        "nll": float((np.logaddexp(0, logits) - targets * logits).mean()),
        "ece": cal.ece(deciles),
        "ece_of_chance": cal.ece_of_chance(deciles),
        "ece_equal_width": cal.ece(cal.reliability(p, targets, equal_mass=False)),
        "reliability": [asdict(each) for each in deciles],
    }


def _raters(examples: Examples) -> Report | None:
    """How often two people agree on a comparison: no model can be expected to agree with them more."""
    agreed = pairs = people = 0
    for comparison in examples.comparisons:
        votes = list(comparison.votes.values())
        people = max(people, len(votes))
        n_pairs, yes = len(votes) * (len(votes) - 1) // 2, sum(votes)
        pairs += n_pairs
        agreed += yes * (yes - 1) // 2 + (len(votes) - yes) * (len(votes) - yes - 1) // 2
    if not pairs:
        return None
    low, high = wilson(agreed, pairs)
    return {"most_people": people, "pairs": pairs, "agreement": agreed / pairs, "low": low, "high": high}
