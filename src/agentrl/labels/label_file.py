"""A file of labels: ratings and preferences, mixed, one JSON object a line; it only ever grows."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agentrl.disk import sync
from agentrl.errors import ConfigError
from agentrl.json_files import read_json_lines
from agentrl.labels.records import Labels, Preference, Rating, from_row


def read_labels(path: Path) -> Labels:
    """What people said, in the order of the file; who labelled the same twice is taken at the later word.

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
        if isinstance(label, Rating):
            ratings.pop(label.about, None)
            ratings[label.about] = label
        else:
            preferences.pop(label.about, None)
            preferences[label.about] = label
    return Labels(tuple(ratings.values()), tuple(preferences.values()))


def _label(row: dict[str, Any]) -> Rating | Preference:
    if "score" in row or "rollout_id" in row:
        return from_row(Rating, row)
    if "chosen" in row or "rejected" in row:
        return from_row(Preference, row)
    raise ValueError(
        f"found neither a rating nor a preference (keys: {', '.join(row) or 'none'}); "
        "allowed: rollout_id and score, or chosen and rejected"
    )


def append_label(path: Path, label: Rating | Preference) -> None:
    """Add one line at the end, on disk when this returns; the folder is made where it is missing.

    Raises:
        ConfigError: it cannot be written; the file is as it was.
    """
    line = (json.dumps(asdict(label), ensure_ascii=False) + "\n").encode("utf-8", errors="replace")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        with path.open("ab+", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            if before and os.pread(file.fileno(), 1, before - 1) != b"\n":  # written by hand, without its last newline
                line = b"\n" + line
            try:
                if file.write(line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        if is_new:
            sync(path.absolute().parent)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from error
