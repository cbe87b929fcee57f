"""What people say of audited episodes, held against the grader: does its reward mean what it should?

The queue is no sample of all episodes: the highest scores and the largest gaps are in it on purpose. So the figures are
about the queue; those of its random entries alone speak for the evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentrl.evaluation.rank_correlation import Agreement, agreement
from agentrl.labels import AuditEntry, Rating, mean_ratings

FAILURE = 0.5
"""People's mean score below which an episode is a failure to them."""


@dataclass(frozen=True)
class Audited:
    """An episode that somebody labelled."""

    evaluation: str
    entry: AuditEntry
    label: float
    """Mean over raters."""
    note: str
    """The latest that is not empty."""


@dataclass(frozen=True)
class AuditSummary:
    """How far the audit is, and what it found."""

    queued: int
    labelled: int
    by_rater: dict[str, int]
    grader: Agreement | None
    """The grader's scores against people's; None before two episodes are labelled."""
    grader_on_random: Agreement | None
    """The same on entries that were drawn at random."""
    holdouts: dict[str, Agreement]
    false_positives: tuple[Audited, ...]
    """The grader passes them, people call them failures."""
    false_negatives: tuple[Audited, ...]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def audit_summary(
    queues: Sequence[tuple[str, AuditEntry]], ratings: Iterable[Rating], *, pass_threshold: float
) -> AuditSummary:
    """Hold people's labels against the scores of the queue.

    Args:
        queues: (evaluation, entry) of everything that was put aside.
        pass_threshold: the grader's score that counts as a success.
    """
    known = {entry.rollout_id for _, entry in queues}
    ours = [rating for rating in ratings if rating.rollout_id in known]
    labels = mean_ratings(ours)
    notes = {rating.rollout_id: rating.note for rating in ours if rating.note}
    done = [
        Audited(evaluation, entry, labels[entry.rollout_id], notes.get(entry.rollout_id, ""))
        for evaluation, entry in queues
        if entry.rollout_id in labels
    ]
    holdouts = {name for each in done for name in each.entry.holdout}
    return AuditSummary(
        queued=len(queues),
        labelled=len(done),
        by_rater=dict(Counter(rating.rater for rating in ours).most_common()),
        grader=_against_people(done),
        grader_on_random=_against_people([each for each in done if "random" in each.entry.why.split(", ")]),
        holdouts={name: found for name in sorted(holdouts) if (found := _against_people(done, name)) is not None},
        false_positives=tuple(
            each for each in done if each.entry.score >= pass_threshold and each.label < FAILURE
        ),
        false_negatives=tuple(
            each for each in done if each.entry.score < pass_threshold and each.label >= FAILURE
        ),
    )  # fmt: skip


def _against_people(done: Sequence[Audited], holdout: str | None = None) -> Agreement | None:
    graded = [each for each in done if holdout is None or holdout in each.entry.holdout]
    if len(graded) < 2:
        return None
    scores = [each.entry.score if holdout is None else each.entry.holdout[holdout] for each in graded]
    return agreement([each.label for each in graded], scores, [each.entry.task_id for each in graded])
