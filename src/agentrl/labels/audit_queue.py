"""RUN_DIR/audit: which episodes of each evaluation wait for a person, and what people have said of them.

audit/EVALUATION.jsonl holds the entries that an evaluation put aside, audit/picked/EVALUATION.jsonl those that people
picked from the same file of rollouts, audit/labels.jsonl the labels of all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from agentrl.disk import write_text
from agentrl.errors import ConfigError
from agentrl.json_files import read_json_lines
from agentrl.labels.picks import read_picks
from agentrl.labels.records import PICKED, AuditEntry, from_row

AUDIT = "audit"
LABELS = "labels"


def labels_path(run: Path) -> Path:
    """Where `agentrl audit` puts what people say of this run."""
    return run / AUDIT / f"{LABELS}.jsonl"


def queue_path(run: Path, evaluation: str) -> Path:
    if not evaluation or evaluation.startswith(".") or "/" in evaluation or os.sep in evaluation:
        raise ValueError(f"{evaluation!r} cannot name an evaluation; use a word such as 'validation-0005'")
    if evaluation == LABELS:
        raise ValueError(f"{evaluation!r} cannot name an evaluation: {AUDIT}/{LABELS}.jsonl holds people's labels")
    return run / AUDIT / f"{evaluation}.jsonl"


def picks_path(run: Path, evaluation: str) -> Path:
    """Where those are that people picked from a file of rollouts, an evaluation's or a training step's."""
    own = queue_path(run, evaluation)
    return own.parent / PICKED / own.name


def write_audit_queue(run: Path, evaluation: str, entries: Iterable[AuditEntry]) -> None:
    """Put these episodes aside for people, in place of what was put aside under this name.

    An episode that is given more than once stays one entry, with all of its reasons.
    """
    path = queue_path(run, evaluation)
    text = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in _merged(entries))
    path.parent.mkdir(exist_ok=True)  # a run directory that somebody deleted is not made again
    write_text(path, text)


def read_audit_queue(run: Path, evaluation: str) -> tuple[AuditEntry, ...]:
    """The episodes that were put aside under this name, in the order written, then those that people picked.

    Raises:
        ConfigError: there is no such queue, or a line is no entry (file:line).
    """
    path, picked = queue_path(run, evaluation), picks_path(run, evaluation)
    if not path.is_file() and not picked.is_file():
        found = ", ".join(queued_evaluations(run)) or "none"
        raise ConfigError(f"{path}: no such file; evaluations with a queue here: {found}")
    entries = []
    for number, row in read_json_lines(path) if path.is_file() else ():
        try:
            entries.append(from_row(AuditEntry, row))
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
    return tuple(_merged([*entries, *read_picks(picked)]))


def queued_evaluations(run: Path) -> tuple[str, ...]:
    """Names of all files of rollouts with a queue, in their order."""
    folders = (run / AUDIT, run / AUDIT / PICKED)
    names = {path.stem for folder in folders for path in folder.glob("*.jsonl") if not path.name.startswith(".")}
    return tuple(sorted(names - {LABELS}))


def _merged(entries: Iterable[AuditEntry]) -> list[AuditEntry]:
    merged: dict[str, AuditEntry] = {}
    for entry in entries:
        earlier = merged.get(entry.rollout_id)
        whys = list(dict.fromkeys([*(earlier.why.split(", ") if earlier else []), *entry.why.split(", ")]))
        merged[entry.rollout_id] = replace(entry, why=", ".join(whys))
    return list(merged.values())
