"""A file of labels: ratings and preferences, mixed, one JSON object a line; it only ever grows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.json_files import read_json_lines
from agentrl.labels.growing_file import append_line
from agentrl.labels.records import Labels, Preference, Rating, Withdrawal, from_row


def read_labels(path: Path) -> Labels:
    """What people said, in the order of the file; who labelled the same twice is taken at the later word.

    A rating that its rater took back is left out.

    Raises:
        ConfigError: the file cannot be read, or a line is no label (file:line, what was found, what is allowed).
    """
    ratings: dict[tuple[str, ...], Rating] = {}
    preferences: dict[tuple[str, ...], Preference] = {}
    for number, row in read_json_lines(path):
        try:
            label = _label(row)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
        if isinstance(label, Preference):
            preferences.pop(label.about, None)
            preferences[label.about] = label
            continue
        ratings.pop(label.about, None)
        if isinstance(label, Rating):
            ratings[label.about] = label
    return Labels(tuple(ratings.values()), tuple(preferences.values()))


def _label(row: dict[str, Any]) -> Rating | Preference | Withdrawal:
    if "withdrawn_at" in row:
        return from_row(Withdrawal, row)
    if "score" in row or "rollout_id" in row:
        return from_row(Rating, row)
    if "chosen" in row or "rejected" in row:
        return from_row(Preference, row)
    raise ValueError(
        f"found neither a rating nor a preference (keys: {', '.join(row) or 'none'}); "
        "allowed: rollout_id and score, or chosen and rejected"
    )


def append_label(path: Path, label: Rating | Preference | Withdrawal) -> None:
    """Add one line at the end, on disk when this returns; the folder is made where it is missing.

    Raises:
        ConfigError: it cannot be written; the file is as it was.
    """
    append_line(path, asdict(label))
