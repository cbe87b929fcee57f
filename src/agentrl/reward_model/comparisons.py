"""Which of two episodes of one task is better, by outcome, by score, or by what people said."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from agentrl.labels import Preference
from agentrl.reward_model.episodes import Episode

By = Literal["outcome", "score", "labels"]
MARGIN = 0.2
"""Scores that differ by no more are a tie."""

NO_SCORE = "episodes without a score"
ALONE = "tasks with one kind of episode only"
TIE = "comparisons within the margin (ties)"
UNKNOWN = "preferences about episodes that are not here"
UNDECIDED = "preferences on which people are evenly split"
MANY = "comparisons beyond the most of a task"
SAME = "comparisons of episodes that did the same"


@dataclass(frozen=True)
class Comparison:
    """Two episodes of one task in an order that says nothing, and which one is better."""

    task_id: str
    first: str
    second: str
    """Ids of rollouts."""
    is_first_better: bool
    gap: float = 0.0
    """Difference of the two scores; 0 where people only said which one."""
    votes: Mapping[str, bool] = field(default_factory=dict)
    """Person -> whether they find the first one better."""

    @property
    def chosen(self) -> str:
        return self.first if self.is_first_better else self.second

    @property
    def rejected(self) -> str:
        return self.second if self.is_first_better else self.first


@dataclass
class Compared:
    """What was found, and what was not used and why."""

    comparisons: list[Comparison] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def compare(
    episodes: Sequence[Episode],
    *,
    by: By,
    pass_threshold: float = 0.75,
    margin: float = MARGIN,
    preferences: Iterable[Preference] = (),
    most: int = 4,
    seed: int = 17,
) -> Compared:
    """Pairs of episodes of one task.

    Args:
        by: `outcome`: a success against a failure, whose scores differ by more than `margin`; `score`: any two scores
            that do; `labels`: only what people preferred, or rated apart by more than `margin`.
        most: comparisons of one task, those of people aside: a task with many episodes is not to outweigh the others.
    """
    found, draw = Compared(), random.Random(seed)
    by_task: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_task.setdefault(episode.task_id, []).append(episode)
    for task_id, siblings in by_task.items():
        if by == "labels":
            siblings = [episode for episode in siblings if episode.ratings]
        found.dropped[NO_SCORE] += sum(episode.score is None for episode in siblings)
        scored = [episode for episode in siblings if episode.score is not None]
        candidates = list(combinations(scored, 2))
        if by == "outcome":
            candidates = [(a, b) for a, b in candidates if _passes(a, pass_threshold) != _passes(b, pass_threshold)]
            found.dropped[ALONE] += bool(scored) and not candidates
        draw.shuffle(candidates)
        kept: list[Comparison] = []
        for one, other in candidates:
            gap = abs(_score(one) - _score(other))
            if gap <= margin:
                found.dropped[TIE] += 1
            elif one.transcript.turns == other.transcript.turns:
                found.dropped[SAME] += 1
            else:
                kept.append(_presented(task_id, one, other, gap, draw))
        found.dropped[MANY] += max(0, len(kept) - most)
        found.comparisons += _spread(kept, most)
    known = {episode.id: episode for episode in episodes}
    found.comparisons += _preferred(preferences, known, found.dropped, draw)
    found.dropped = +found.dropped  # without the reasons that never applied
    return found


def _score(episode: Episode) -> float:
    assert episode.score is not None
    return episode.score


def _passes(episode: Episode, threshold: float) -> bool:
    return _score(episode) >= threshold


def _presented(task_id: str, one: Episode, other: Episode, gap: float, draw: random.Random) -> Comparison:
    """In an order drawn by chance: which of the two stands first must not say which one is better."""
    first, second = (one, other) if draw.random() < 0.5 else (other, one)
    both = first.ratings.keys() & second.ratings.keys()
    votes = {who: first.ratings[who] > second.ratings[who] for who in both if first.ratings[who] != second.ratings[who]}
    return Comparison(task_id, first.id, second.id, _score(first) > _score(second), gap, votes)


def _spread(comparisons: Sequence[Comparison], most: int) -> list[Comparison]:
    """At most so many, each time the one whose episodes were used least."""
    uses: Counter[str] = Counter()
    left, kept = list(comparisons), list[Comparison]()
    while left and len(kept) < most:
        best = min(left, key=lambda each: uses[each.first] + uses[each.second])
        left.remove(best)
        kept.append(best)
        uses.update((best.first, best.second))
    return kept


def _preferred(
    preferences: Iterable[Preference], known: Mapping[str, Episode], dropped: Counter[str], draw: random.Random
) -> list[Comparison]:
    """One comparison for every two episodes that people compared, by the majority of them."""
    votes: dict[tuple[str, str], dict[str, str]] = {}
    for preference in preferences:
        if not {preference.chosen, preference.rejected} <= known.keys():
            dropped[UNKNOWN] += 1
            continue
        one, other = sorted((preference.chosen, preference.rejected))
        votes.setdefault((one, other), {})[preference.rater] = preference.chosen
    found = []
    for (one, other), chosen in votes.items():
        first, second = (one, other) if draw.random() < 0.5 else (other, one)
        for_first = sum(each == first for each in chosen.values())
        if 2 * for_first == len(chosen):
            dropped[UNDECIDED] += 1
            continue
        by_person = {who: each == first for who, each in chosen.items()}
        found.append(Comparison(known[first].task_id, first, second, 2 * for_first > len(chosen), votes=by_person))
    return found
