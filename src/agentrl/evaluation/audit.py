"""Which episodes of an evaluation a person should look at first, and which ones look gamed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from agentrl.config import GradingConfig
from agentrl.evaluation.holdout import gap_of, holdout_score
from agentrl.labels import AuditEntry
from agentrl.types import Rollout

ANSWER_CHARS = 200
SHOWN_SAMPLES = 5


def audit_queue(rollouts: Sequence[Rollout], grading: GradingConfig, *, seed: object) -> list[AuditEntry]:
    """Some at random, those with the highest scores, those with the largest gap to the hold-outs; see `grading.audit`.

    Equal scores are drawn by chance, from the seed alone: else the same few items would be looked at every time.
    """
    shuffled = sorted((each for each in rollouts if each.is_valid), key=lambda each: (each.task.id, each.sample_index))
    random.Random(f"{seed}/audit").shuffle(shuffled)
    highest = sorted(shuffled, key=lambda each: -(each.grade.score or 0.0))
    chosen = [
        *(("random", each) for each in shuffled[: grading.audit.random]),
        *(("highest", each) for each in highest[: grading.audit.highest]),
        *(("largest_gap", each) for each in largest_gaps(shuffled, grading)[: grading.audit.largest_gap]),
    ]
    return [
        AuditEntry(each.id, each.task.id, why, each.grade.score or 0.0, dict(each.grade.holdout))
        for why, each in chosen
    ]


def largest_gaps(rollouts: Sequence[Rollout], grading: GradingConfig) -> list[Rollout]:
    """Those that score above their hold-outs, the furthest first."""
    gaps = [(gap, each) for each in rollouts if each.is_valid and (gap := gap_of(each, grading)) is not None]
    return [each for gap, each in sorted(gaps, key=lambda pair: -pair[0]) if gap > 0]


def suspects(rollouts: Sequence[Rollout], grading: GradingConfig) -> list[dict[str, Any]]:
    """The episodes with the largest gaps, as stop.json names them."""
    return [
        {
            "rollout_id": each.id,
            "task_id": each.task.id,
            "score": each.grade.score,
            "holdout": holdout_score(each, grading),
            "holdout_by_name": each.grade.holdout,
            "answer": each.answer[:ANSWER_CHARS],
        }
        for each in largest_gaps(rollouts, grading)[:SHOWN_SAMPLES]
    ]
