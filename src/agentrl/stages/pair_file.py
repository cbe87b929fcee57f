"""Pairs on disk: one JSON object a line, token ids as they were sampled, and whose tokenizer gives them their meaning.

{"task_id": "...", "chosen_id": "trace_...", "rejected_id": "trace_...", "chosen_score": 1.0, "rejected_score": 0.0,
 "turn": 2, "tokenizer": "sha256:...", "prefix_ids": [...],
 "chosen_ids": [...], "chosen_mask": [1, 1, 0, 1], "rejected_ids": [...], "rejected_mask": [...]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agentrl.disk import write_text
from agentrl.errors import ConfigError
from agentrl.runs.files import to_json
from agentrl.stages.pairs import Pair

Row = dict[str, list[int]]


def vocabulary_digest(tokenizer: Any) -> str:
    """sha256 over every token and its id: equal where ids mean the same."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0]))
    return f"sha256:{hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()}"


def digest_of_tokenizer(folder: Path) -> str:
    """The vocabulary's digest of a checkpoint.

    Raises:
        ConfigError: there is no tokenizer.
    """
    from transformers import AutoTokenizer  # late: seconds

    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; --tokenizer names the checkpoint of the policy that was sampled")
    try:
        return vocabulary_digest(AutoTokenizer.from_pretrained(folder))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: its tokenizer cannot be loaded: {error}") from error


def write_pairs(path: Path, pairs: Iterable[Pair], tokenizer: str) -> None:
    """All pairs, in place of what the file held.

    Raises:
        ConfigError: it cannot be written.
    """
    lines = [
        to_json(
            {
                "task_id": pair.task_id,
                "chosen_id": pair.chosen_id,
                "rejected_id": pair.rejected_id,
                "chosen_score": pair.chosen_score,
                "rejected_score": pair.rejected_score,
                "turn": pair.turn,
                "tokenizer": tokenizer,
                "prefix_ids": pair.prefix_ids,
                "chosen_ids": pair.chosen.token_ids,
                "chosen_mask": list(map(int, pair.chosen.action_mask)),
                "rejected_ids": pair.rejected.token_ids,
                "rejected_mask": list(map(int, pair.rejected.action_mask)),
            }
        )
        + "\n"
        for pair in pairs
    ]
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(lines))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def read_pairs(path: Path, tokenizer: Any) -> list[Row]:
    """The rows that `SegmentTrainer` takes.

    Raises:
        ConfigError: the file is missing or empty, or a line is no pair, or of another tokenizer (file:line).
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; make it with `agentrl pairs RUN_DIR --output {path}`")
    expected, known = vocabulary_digest(tokenizer), len(tokenizer)
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                rows.append(_row(json.loads(line), expected, known))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                found = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
                raise ConfigError(f"{path}:{number}: found no pair ({found}); `agentrl pairs` makes them") from error
    if not rows:
        raise ConfigError(f"{path}: holds no pair")
    return rows


def _row(pair: dict[str, Any], tokenizer: str, known: int) -> Row:
    if pair["tokenizer"] != tokenizer:
        raise ConfigError(
            f"sampled with the tokenizer {pair['tokenizer'][:19]}..., not dpo.model's {tokenizer[:19]}..."
        )
    row = {"prompt_ids": pair["prefix_ids"]}
    for side in ("chosen", "rejected"):
        ids, mask = row[f"{side}_ids"], row[f"{side}_mask"] = pair[f"{side}_ids"], pair[f"{side}_mask"]
        if len(ids) != len(mask) or not any(mask) or not set(mask) <= {0, 1}:
            raise ConfigError(f"{side}_mask has to mark sampled tokens of {side}_ids, one 0 or 1 a token")
    if not row["prompt_ids"]:
        raise ConfigError("prefix_ids are empty: nothing comes before the first sampled token")
    ids = row["prompt_ids"] + row["chosen_ids"] + row["rejected_ids"]
    if set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) >= known:
        raise ConfigError(f"ids are whole numbers from 0 to {known - 1}")
    return row


def keep_short(rows: list[Row], path: Path, *, max_length: int, max_dropped_fraction: float) -> list[Row]:
    """The pairs of which both sides fit; a longer one is dropped whole, as half a segment is another segment.

    Raises:
        ConfigError: too many would be dropped, and what is left would be a choice of the short ones.
    """
    kept = [row for row in rows if longest(row) <= max_length]
    dropped = len(rows) - len(kept)
    if dropped > max_dropped_fraction * len(rows) or not kept:
        lengths = sorted(longest(row) for row in rows)
        raise ConfigError(
            f"{path}: {dropped} of {len(rows)} pairs ({dropped / len(rows):.1%}) are longer than dpo.max_length "
            f"({max_length} tokens; the longest has {lengths[-1]}, half have more than {lengths[len(rows) // 2]}); "
            f"allowed: {max_dropped_fraction:.0%} (dpo.max_dropped_fraction); raise max_length, or make other pairs"
        )
    return kept


def longest(row: Row) -> int:
    """Tokens of the longer side, prefix included."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
