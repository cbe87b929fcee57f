"""Recorded episodes to pairs: what of a run directory, or of a file of rollouts, goes into `build_pairs`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agentrl.errors import ConfigError
from agentrl.runs.files import CONFIG
from agentrl.runs.trace_files import read_traces
from agentrl.stages.pairs import Episode, Pair

HELD_OUT = 10
"""One task in so many is held out where a validation file is asked for."""


def read_episodes(path: Path) -> Iterator[Episode]:
    """Every rollout of a file of traces.

    Raises:
        ConfigError: see `read_traces`.
    """

    def episode(trace: Mapping[str, Any]) -> Episode:
        return Episode(
            id=trace["id"],
            task_id=trace["task_id"],
            score=trace["grade"]["score"],
            prompt_ids=tuple(trace["prompt_ids"]),
            turns=tuple((tuple(turn["token_ids"]), tuple(turn["observation_ids"])) for turn in trace["turns"]),
            grader_version=trace["grade"].get("version", ""),
            source=str(path),
        )

    return read_traces(path, episode)


def settings_of(sources: Sequence[Path]) -> tuple[set[Path], set[float]]:
    """Baselines and pass thresholds of the runs among the sources: whose ids they are, and what counts as a success.

    Raises:
        ConfigError: a run's config cannot be read.
    """
    baselines, thresholds = set(), set()
    for path in (source / CONFIG for source in sources if source.is_dir()):
        try:
            config = yaml.safe_load(path.read_text("utf-8"))
            baselines.add(Path(config["workflow"]["baseline"]))
            thresholds.add(float(config["grading"]["pass_threshold"]))
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: is no config of `agentrl train` ({error!r:.100})") from error
    return baselines, thresholds


def is_held_out(pair: Pair) -> bool:
    """By a hash of the task: all pairs of a task are on one side, in every call."""
    return int.from_bytes(hashlib.sha256(pair.task_id.encode()).digest()[:4]) % HELD_OUT == 0
