"""What an update saw in every token that it learned from, beside the rollouts: tokens/train-NNNNNN.jsonl.gz.

One line a rollout, only of those that the update took: what was stale, ungraded or without a signal has none.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from agentrl.disk import write_packed_lines
from agentrl.errors import CheckpointError
from agentrl.runs.trace_files import MAX_LINE

TOKENS = "tokens"
STEP = re.compile(r"train-\d{6,}")
"""Begins the names of all files of rollouts that one step learned from; its facts are in the file of just this name."""
DIGITS = 5
"""Significant digits that are kept."""

Numbers = tuple[tuple[float | None, ...], ...]
"""[turns] [T] one number for each of `turns[i].token_ids`; None where it was not finite."""


@dataclass(frozen=True)
class TokenFacts:
    """One rollout's tokens, before the update that learned from it."""

    rollout_id: str
    advantages: Numbers
    """As the loss used them: after whitening over the batch, where `ppo.whiten_advantages` is on."""
    values: Numbers | None
    """The critic's value of what stood before the token; None without a critic."""
    logprobs: Numbers
    """`old_logprobs`, in nats: under the weights before the update (the engine's, with `ppo.old_logprobs: engine`)."""
    ref_logprobs: Numbers
    """Under the reference, in nats."""
    is_trusted: bool = True
    """False where the mismatch filters kept the rollout out of the loss."""


def write_token_facts(run: Path, name: str, facts: Iterable[TokenFacts]) -> Path:
    """tokens/NAME.jsonl.gz, whole or not at all; an earlier file of that name is replaced.

    Raises:
        OSError: it cannot be written.
    """
    path = token_facts_path(run, name)
    path.parent.mkdir(exist_ok=True)  # in `run` alone: a run directory that is gone is not made again
    write_packed_lines(path, (json.dumps(vars(each), allow_nan=False) for each in facts))
    return path


def read_token_facts(run: Path, file: str, rollout_id: str) -> TokenFacts | None:
    """The facts of a rollout of rollouts/FILE.jsonl.gz; None where no update learned from it, or nothing was kept.

    Raises:
        CheckpointError: the facts are damaged.
    """
    step = STEP.match(file)  # what a step drew again, train-000005-again-1, is learned from with its other rollouts
    if step is None:
        return None
    return next(all_token_facts(run, step.group(), containing=rollout_id), None)


def all_token_facts(run: Path, name: str, *, containing: str = "") -> Iterator[TokenFacts]:
    """Of every rollout that the update of step `train-NNNNNN` took; nothing where none were kept.

    Args:
        containing: only of the rollout of this id.

    Raises:
        CheckpointError: the facts are damaged.
    """
    path = token_facts_path(run, name)
    if not path.is_file():
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            while line := lines.readline(MAX_LINE):
                if len(line) == MAX_LINE:
                    raise ValueError(f"a line has more than {MAX_LINE >> 20} MB")
                if containing not in line:
                    continue
                record = json.loads(line)
                if not containing or record["rollout_id"] == containing:
                    yield TokenFacts(
                        **{field.name: _read(field.name, record[field.name]) for field in fields(TokenFacts)}
                    )
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def token_facts_path(run: Path, name: str) -> Path:
    return run / TOKENS / f"{name}.jsonl.gz"


def _read(name: str, value: Any) -> Any:
    """The field, of the kind that it is.

    Raises:
        TypeError: it is another one.
    """
    if name in ("rollout_id", "is_trusted") or (name == "values" and value is None):
        return value
    if not isinstance(value, list) or not all(isinstance(turn, list) for turn in value):
        raise TypeError(f"{name} is no list of a list for each turn")
    return tuple(map(tuple, value))
