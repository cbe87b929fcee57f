"""Recorded rollouts, and what graders and people said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from agentrl.grading.rendering import Transcript
from agentrl.labels import Rating
from agentrl.types import Grade, Rollout


@dataclass(frozen=True)
class Episode:
    """One rollout, as far as a reward model learns from it or is measured on it."""

    id: str
    task_id: str
    document: str
    """What the task is about, such as a page or a repository; empty where its row does not say."""
    score: float | None
    """The grader's, or the mean of people's; None where nobody gave one."""
    tokens: int
    """Sampled by the policy."""
    transcript: Transcript = field(repr=False)
    ratings: Mapping[str, float] = field(default_factory=dict)
    """Person -> score."""

    @property
    def n_turns(self) -> int:
        return len(self.transcript.turns)


def to_episode(rollout: Rollout, *, score: str = "", document: str = "", levels: int | None = None) -> Episode:
    """A rollout that the policy ended by itself or against a limit.

    Args:
        score: a part of the grade, such as `correctness`, or a hold-out grader's name; empty for the score.
        document: key of the task's row that names its document; empty for none.
        levels: how many leading parts of a document's name, between slashes, make it the same document.
    """
    found = rollout.task.item.get(document) if document else None
    name = "" if found is None else str(found)
    if levels is not None:
        name = "/".join(name.split("/")[:levels])
    return Episode(
        id=rollout.id,
        task_id=rollout.task.id,
        document=name,
        score=_score(rollout.grade, score) if rollout.is_valid or score else None,
        tokens=rollout.output_tokens,
        transcript=Transcript.of_rollout(rollout),
    )


def _score(grade: Grade, name: str) -> float | None:
    return {**grade.holdout, **grade.sub_scores}.get(name) if name else grade.score


def rated(episodes: Iterable[Episode], ratings: Iterable[Rating]) -> list[Episode]:
    """The episodes with what people said: where somebody rated one, the mean of people's scores is its score."""
    by_episode: dict[str, dict[str, float]] = {}
    for rating in ratings:
        by_episode.setdefault(rating.rollout_id, {})[rating.rater] = rating.score
    return [
        replace(episode, score=fmean(found.values()), ratings=found)
        if (found := by_episode.get(episode.id))
        else episode
        for episode in episodes
    ]


def user_text(episode: Episode) -> str:
    """All that the user says, blanks made alike."""
    said: list[Any] = [m.get("content") for m in episode.transcript.messages if m.get("role") == "user"]
    return " ".join(" ".join(str(each) for each in said).split())
