"""One measurement of one policy, whole: who, under which conditions, and every rollout. A file, or part of a run.

NAME.json                 policy, conditions, threshold, figures
NAME.rollouts.jsonl.gz    the rollouts that the figures are made of, beside it, by digest
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.disk import file_digest, write_packed_lines, write_text
from agentrl.errors import ConfigError
from agentrl.evaluation.metrics import EvalReport, evaluate_rollouts
from agentrl.evaluation.paired_files import beside, file_beside, read_record, reading
from agentrl.runs.files import to_json
from agentrl.runs.sound_traces import sound_rollout
from agentrl.runs.trace_files import SUFFIX, read_traces
from agentrl.runs.traces import to_trace
from agentrl.types import Rollout

FORMAT = "agentrl-evaluation/1"


@dataclass(frozen=True)
class Evaluation:
    """The rollouts of one policy on one set of items, and what they were made under."""

    name: str
    """Names it in reports, such as `runs/finqa@best`."""
    policy: Mapping[str, Any]
    """Who: `kind` (baseline, checkpoint, run, api), and what identifies it, such as `digest`, `step`, `model`."""
    conditions: Mapping[str, Any] = field(repr=False)
    """See `evaluation.conditions`: what must be equal before two are compared."""
    pass_threshold: float
    """A score at or above it is a success."""
    tools: tuple[str, ...]
    """Names of the tools that there were; calls of any other are counted as unknown. Empty: not known."""
    rollouts: tuple[Rollout, ...] = field(repr=False)
    created_at: str = ""
    """ISO 8601, UTC."""
    selection: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Which items: `split`, `seed`, `tags` chosen, `tags_looked_at`, and `suite` by name and digest; {} of a run."""

    @cached_property
    def report(self) -> EvalReport:
        """The figures, computed from the rollouts."""
        return evaluate_rollouts(
            self.rollouts, pass_threshold=self.pass_threshold, name=self.name, tools=self.tools or None
        )


def write_evaluation(path: Path, evaluation: Evaluation) -> Path:
    """`path` (NAME.json) and its rollouts beside it; the JSON is written last, so that it never names what is missing.

    Raises:
        OSError: they cannot be written.
    """
    rollouts = rollouts_beside(path)
    write_packed_lines(rollouts, (to_json(to_trace(rollout)) for rollout in evaluation.rollouts))
    record = {
        "format": FORMAT,
        "name": evaluation.name,
        "created_at": evaluation.created_at or datetime.now(UTC).isoformat(timespec="seconds"),
        "policy": evaluation.policy,
        "selection": evaluation.selection,
        "conditions": evaluation.conditions,
        "pass_threshold": evaluation.pass_threshold,
        "tools": evaluation.tools,
        "figures": evaluation.report.as_dict(),
        "rollouts": rollouts.name,
        "rollouts_digest": file_digest(rollouts),
    }
    write_text(path, to_json(record, indent=2) + "\n")
    return path


def rollouts_beside(path: Path) -> Path:
    """Where the rollouts of the evaluation file `path` are kept."""
    return beside(path, f".rollouts{SUFFIX}")


def read_evaluation(path: Path) -> Evaluation:
    """The inverse of `write_evaluation`.

    Raises:
        ConfigError: it is no such file, or its rollouts are missing or not those it was written with.
    """
    with reading(path, "evaluation file"):
        record = read_record(path, FORMAT, "`agentrl eval --out` writes it")
        rollouts = file_beside(path, record, "rollouts", "rollouts_digest")
        selection = record.get("selection", {})
        for key, value in (
            ("policy", record["policy"]),
            ("conditions", record["conditions"]),
            ("selection", selection),
        ):
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: {key}: found {type(value).__name__}; allowed: an object")
        sampled = tuple(read_traces(rollouts, sound_rollout))
        if len({each.id for each in sampled}) < len(sampled):
            raise ConfigError(f"{rollouts}: holds a rollout twice, which would count twice")
        if not math.isfinite(pass_threshold := float(record["pass_threshold"])):
            raise ConfigError(f"{path}: pass_threshold: found {pass_threshold}; allowed: a number")
        return Evaluation(
            name=str(record["name"]),
            policy=record["policy"],
            conditions=record["conditions"],
            pass_threshold=pass_threshold,
            tools=tuple(map(str, record["tools"])),
            rollouts=sampled,
            created_at=str(record["created_at"]),
            selection=selection,
        )
