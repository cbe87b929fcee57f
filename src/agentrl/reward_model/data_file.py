"""Episodes and comparisons on disk: one JSON object a line, every episode once.

{"episode": {"id": "trace_...", "task_id": "q7", "document": "acme/2015", "score": 1.0, "tokens": 83, "ratings": {},
             "messages": [...], "turns": [{"text": "...", "results": [["call_0", "search", "..."]]}],
             "is_complete": true}}
{"comparison": {"task_id": "q7", "first": "trace_...", "second": "trace_...", "is_first_better": false, "gap": 1.0,
                "votes": {}}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentrl.disk import write_text
from agentrl.errors import ConfigError
from agentrl.grading.rendering import Transcript
from agentrl.reward_model.comparisons import Comparison
from agentrl.reward_model.episodes import Episode
from agentrl.runs.files import to_json


@dataclass(frozen=True)
class Examples:
    """What such a file holds."""

    episodes: dict[str, Episode]
    """By id."""
    comparisons: tuple[Comparison, ...]

    def sides(self, comparison: Comparison) -> tuple[Episode, Episode]:
        """The better one, the worse one."""
        return self.episodes[comparison.chosen], self.episodes[comparison.rejected]


def write_examples(path: Path, episodes: Iterable[Episode], comparisons: Iterable[Comparison]) -> None:
    """All of it, in place of what the file held.

    Raises:
        ConfigError: it cannot be written.
    """
    lines = [to_json({"episode": _episode_row(episode)}) for episode in episodes]
    lines += [to_json({"comparison": asdict(comparison)}) for comparison in comparisons]
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def _episode_row(episode: Episode) -> dict[str, Any]:
    fields = ("id", "task_id", "document", "score", "tokens", "ratings")
    return {**{name: getattr(episode, name) for name in fields}, **episode.transcript.to_row()}


def read_examples(path: Path) -> Examples:
    """The episodes and comparisons of a file.

    Raises:
        ConfigError: it is missing or empty, or a line is neither, or names an episode that is not there (file:line).
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; make it with `agentrl reward-model pairs RUN_DIR --output {path}`")
    episodes: dict[str, Episode] = {}
    comparisons: list[tuple[int, Comparison]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if "episode" in row:
                    episode = _episode(row["episode"])
                    episodes[episode.id] = episode
                else:
                    comparisons.append((number, Comparison(**row["comparison"])))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                found = f"found neither an episode nor a comparison ({type(error).__name__}: {error})"
                raise ConfigError(f"{path}:{number}: {found}; `agentrl reward-model pairs` writes them") from error
    if not episodes:
        raise ConfigError(f"{path}: holds no episode")
    for number, comparison in comparisons:
        if missing := [each for each in (comparison.first, comparison.second) if each not in episodes]:
            raise ConfigError(f"{path}:{number}: compares {missing[0]}, which is no episode of this file")
    return Examples(episodes, tuple(comparison for _, comparison in comparisons))


def _episode(row: dict[str, Any]) -> Episode:
    score = row["score"]
    if score is not None and not (isinstance(score, int | float) and math.isfinite(score)):
        raise ValueError(f"score {score!r:.40} is no number")
    return Episode(
        id=str(row["id"]),
        task_id=str(row["task_id"]),
        document=str(row["document"]),
        score=score,
        tokens=int(row["tokens"]),
        transcript=Transcript.from_row(row),
        ratings={str(who): float(value) for who, value in row["ratings"].items()},
    )
