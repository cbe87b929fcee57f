"""Recorded episodes to pairs: what of a run directory, or of a file of rollouts, goes into `build_pairs`."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from agentrl.errors import ConfigError
from agentrl.runs.files import CONFIG, ROLLOUTS
from agentrl.stages.pairs import Episode, Pair

HELD_OUT = 10
"""One task in so many is held out where a validation file is asked for."""


def trace_files(source: Path) -> list[Path]:
    """The files of a run directory that were sampled for training, or the one file.

    Validation and test rollouts are left out: what is learned from can no longer be measured with.

    Raises:
        ConfigError: there is nothing to read.
    """
    if source.is_file():
        return [source]
    found = sorted((source / ROLLOUTS).glob("train-*.jsonl.gz"))
    if not found:
        what = "no rollouts/train-*.jsonl.gz" if source.is_dir() else "no such file or folder"
        raise ConfigError(f"{source}: {what}; give the directory of a run of `agentrl train`, or a file of rollouts")
    return found


def read_episodes(path: Path) -> Iterator[Episode]:
    """Every rollout of a file of traces, as `rollouts/*.jsonl.gz` and `agentrl rollouts --out` have them.

    Raises:
        ConfigError: a line is no rollout (file:line).
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield replace(_episode(line, f"{path}:{number}"), source=str(path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _episode(line: str, place: str) -> Episode:
    try:
        trace = json.loads(line)
        return Episode(
            id=trace["id"],
            task_id=trace["task_id"],
            score=trace["grade"]["score"],
            prompt_ids=tuple(trace["prompt_ids"]),
            turns=tuple((tuple(turn["token_ids"]), tuple(turn["observation_ids"])) for turn in trace["turns"]),
            grader_version=trace["grade"].get("version", ""),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{place}: found no rollout ({type(error).__name__}: {error})") from error


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
