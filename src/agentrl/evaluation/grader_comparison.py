"""An old grader and a new one on the same rollouts, and both against people: may the new one take the old one's place?

Recorded grades of different versions are kept apart, each held against the new grades on its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from agentrl.config import GradingConfig
from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.rank_correlation import Agreement, agreement, mean_interval, spearman
from agentrl.evaluation.regrade import Regraded
from agentrl.labels import Rating, mean_ratings

SHOWN_DISAGREEMENTS = 10


@dataclass(frozen=True)
class Scale:
    """What a grader's scores mean."""

    low: float = 0.0
    high: float = 1.0
    pass_threshold: float = 0.75

    @classmethod
    def of(cls, grading: GradingConfig) -> Scale:
        return cls(grading.min_score, grading.max_score, grading.pass_threshold)

    def share(self, score: float) -> float:
        """From 0, the worst score, to 1, the best."""
        return (score - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class FileChange:
    """What changes for one evaluation, or one step of training."""

    file: str
    n: int
    old_mean: float
    new_mean: float
    spearman: float | None


@dataclass(frozen=True)
class Disagreement:
    """A rollout that the two graders see differently."""

    rollout_id: str
    task_id: str
    file: str
    old_score: float
    new_score: float
    distance: float
    """Of the two scores, each as a share of its grader's range."""
    label: float | None
    """What people said, 0 to 1; None where nobody did."""
    explanation: str
    """The new grader's."""


@dataclass(frozen=True)
class GraderComparison:
    """The new grader against one version of the old one."""

    old_version: str
    new_version: str
    n: int
    """Rollouts that both have graded."""
    agreement: Agreement
    old_mean: float
    new_mean: float
    mean_change: float
    """new - old, in the graders' own units."""
    mean_change_interval: Interval | None
    """95 %, bootstrap over tasks."""
    newly_passed: float
    """Share that the old grader failed and the new one passes, each by its own threshold."""
    newly_failed: float
    files: tuple[FileChange, ...]
    disagreements: tuple[Disagreement, ...]
    """The furthest apart first."""
    new_against_labels: Agreement | None
    """None without labels of these rollouts."""
    old_against_labels: Agreement | None

    @property
    def flips(self) -> float:
        """Share of rollouts that one grader passes and the other fails."""
        return self.newly_passed + self.newly_failed


@dataclass(frozen=True)
class Regrading:
    """What came of it."""

    comparisons: tuple[GraderComparison, ...]
    """One for each pair of versions; nothing is averaged over several."""
    n_rollouts: int
    cut_off: int
    """Rollouts that infrastructure or time ended: no grader was ever asked about them."""
    old_ungraded: int
    """Rollouts that the old grader left ungraded, and so have nothing to be held against."""
    new_ungraded: dict[str, int]
    """Reasons why the new grader gave no score, and how often."""
    unknown_labels: int
    """Rollouts that people rated and that are not here."""
    cost_usd: float
    """Of the new grader's judges."""

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "comparisons": [{**asdict(each), "flips": each.flips} for each in self.comparisons]}


def compare_graders(
    found: Sequence[Regraded],
    old: Scale,
    new: Scale,
    ratings: Sequence[Rating] = (),
    *,
    n_rollouts: int | None = None,
) -> Regrading:
    """Hold the new scores against the recorded ones and against people's.

    Args:
        ratings: several of one rollout count as their mean.
        n_rollouts: how many there were, those that were cut off included.
    """
    labels = mean_ratings(ratings)
    by_versions: dict[tuple[str, str], list[Regraded]] = {}
    for each in found:
        if each.scores is not None:
            by_versions.setdefault((each.rollout.grade.version, each.grade.version), []).append(each)
    known = {each.rollout.id for each in found}
    n_rollouts = len(found) if n_rollouts is None else n_rollouts
    return Regrading(
        comparisons=tuple(_compare(*versions, group, old, new, labels) for versions, group in by_versions.items()),
        n_rollouts=n_rollouts,
        cut_off=n_rollouts - len(found),
        old_ungraded=sum(not each.rollout.grade.is_graded for each in found),
        new_ungraded=dict(Counter(each.grade.reason for each in found if not each.grade.is_graded).most_common()),
        unknown_labels=len(labels.keys() - known),
        cost_usd=sum(each.grade.cost_usd for each in found),
    )


def _compare(
    old_version: str,
    new_version: str,
    group: Sequence[Regraded],
    old: Scale,
    new: Scale,
    labels: Mapping[str, float],
) -> GraderComparison:
    tasks = [each.rollout.task.id for each in group]
    old_scores, new_scores = _both(group)
    changes = [b - a for a, b in zip(old_scores, new_scores, strict=True)]
    passes = [(a >= old.pass_threshold, b >= new.pass_threshold) for a, b in zip(old_scores, new_scores, strict=True)]
    labelled = [each for each in group if each.rollout.id in labels]
    return GraderComparison(
        old_version=old_version,
        new_version=new_version,
        n=len(group),
        agreement=agreement(old_scores, new_scores, tasks),
        old_mean=fmean(old_scores),
        new_mean=fmean(new_scores),
        mean_change=fmean(changes),
        mean_change_interval=mean_interval(changes, tasks),
        newly_passed=fmean(not a and b for a, b in passes),
        newly_failed=fmean(a and not b for a, b in passes),
        files=tuple(_by_file(group)),
        disagreements=tuple(_disagreements(group, old, new, labels)),
        old_against_labels=_against_labels(labelled, labels, 0),
        new_against_labels=_against_labels(labelled, labels, 1),
    )


def _both(group: Sequence[Regraded]) -> tuple[list[float], list[float]]:
    pairs = [each.scores for each in group if each.scores is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _against_labels(group: Sequence[Regraded], labels: Mapping[str, float], which: int) -> Agreement | None:
    if not group:
        return None
    said = [labels[each.rollout.id] for each in group]
    return agreement(_both(group)[which], said, [each.rollout.task.id for each in group])


def _by_file(group: Sequence[Regraded]) -> list[FileChange]:
    files: dict[str, list[Regraded]] = {}
    for each in group:
        files.setdefault(each.file, []).append(each)
    changes = []
    for file, of_file in files.items():
        old_scores, new_scores = _both(of_file)
        means = fmean(old_scores), fmean(new_scores)
        changes.append(FileChange(file, len(of_file), *means, spearman(old_scores, new_scores)))
    return changes


def _disagreements(
    group: Sequence[Regraded], old: Scale, new: Scale, labels: Mapping[str, float]
) -> list[Disagreement]:
    found = []
    for each in group:
        if each.scores is not None and (distance := abs(old.share(each.scores[0]) - new.share(each.scores[1]))) > 1e-9:
            rollout = each.rollout
            found.append(
                Disagreement(
                    rollout_id=rollout.id,
                    task_id=rollout.task.id,
                    file=each.file,
                    old_score=each.scores[0],
                    new_score=each.scores[1],
                    distance=distance,
                    label=labels.get(rollout.id),
                    explanation=each.grade.explanation,
                )
            )
    return sorted(found, key=lambda each: (-each.distance, each.rollout_id))[:SHOWN_DISAGREEMENTS]
