"""Episodes to label outside of the terminal: one JSON object a line, with an empty `score` for a person to fill in.

{"rollout_id", "task_id", "rater", "score": null, "note": "", "why", "grader_score", "holdout", "row", "conversation"}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.json_files import read_json_lines
from agentrl.labels.conversation import as_text, conversation, facts_of
from agentrl.labels.records import AuditEntry, Rating, from_row
from agentrl.types import Rollout

LABEL = ("rollout_id", "task_id", "rater", "score", "note", "labelled_at")


def worksheet_line(entry: AuditEntry, rollout: Rollout, rater: str, *, is_blind: bool = False) -> str:
    """An episode to be labelled; `is_blind` leaves out what graders say of it."""
    graders = {"why": entry.reason, "grader_score": entry.score, "holdout": entry.holdout}
    row: dict[str, Any] = {
        "rollout_id": entry.rollout_id,
        "task_id": entry.task_id,
        "rater": rater,
        "score": None,
        "note": "",
        **({} if is_blind else graders),
        "row": facts_of(rollout.task.item),
        "conversation": as_text(conversation(rollout)),
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_worksheet(path: Path, known: Collection[str], rater: str = "") -> list[Rating]:
    """The labels of a filled-in sheet, or of any file of ratings; lines whose score is still null are passed over.

    Args:
        known: ids of the rollouts that may be labelled.
        rater: of lines that name none.

    Raises:
        ConfigError: a line is no rating (file:line, what was found, what is allowed).
    """
    ratings = []
    for number, row in read_json_lines(path):
        if "rollout_id" in row and row.get("score", 0) is None:
            continue
        label = {key: value for key, value in row.items() if key in LABEL}
        if rater and not label.get("rater"):
            label["rater"] = rater
        try:
            rating = from_row(Rating, label)
            if rating.rollout_id not in known:
                raise ValueError(f"found rollout_id {rating.rollout_id!r:.80}, which is in no queue of this run")
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
        ratings.append(rating)
    return ratings


def new_ratings(ratings: Iterable[Rating], already: Collection[Rating]) -> list[Rating]:
    """Those that say something new, so that a sheet may be read twice."""
    return [each for each in ratings if each not in already]
