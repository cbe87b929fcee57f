"""What makes a run the run that it is: its config, and the versions of all that the config names.

Two runs with one `run_hash` were asked to do the same with the same things. A resumed run has to have the identity
that it had, but for what the user allows to change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agentrl.errors import CheckpointError
from agentrl.runs.files import CONFIG, MANIFEST, read_json

MAY_CHANGE = (
    "ppo.steps",
    "ppo.guards.max_outage_seconds",
    "checkpoint",
    "tracking",
)
"""Keys that a resumed run may set anew without being asked: more steps, more patience or who else is told of them are
the same run."""
MAY_BE_NEWER = frozenset({"agentrl"})
"""Versions that are part of the identity, but that a resumed run is not asked about: a mended program goes on."""
NEVER_CHANGES = ("versions.model",)
"""Keys that no resumed run may change: the optimiser's state and the adapters are those of these weights."""


class Change(NamedTuple):
    """A key of the config, or `versions.NAME`, that has another value than the run was started with."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        before, after = ("absent" if value is ABSENT else repr(value) for value in (self.before, self.after))
        return f"{self.key}: {before} in the run, {after} now"

    def to_record(self) -> dict[str, Any]:
        """For manifest.json; what was absent is null."""
        before, after = (None if value is ABSENT else value for value in (self.before, self.after))
        return {"key": self.key, "before": before, "after": after}

    def is_below(self, keys: Sequence[str]) -> bool:
        """Whether one of the keys is this one, or a section around it."""
        return any(self.key == key or self.key.startswith((f"{key}.", f"{key}[")) for key in keys)


ABSENT = object()


def run_hash(config: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    """`sha256:...` of config and versions as canonical JSON."""
    text = json.dumps({"config": config, "versions": versions}, sort_keys=True, separators=(",", ":"), default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def identity_changes(path: Path, config_yaml: str, manifest: Mapping[str, Any]) -> list[Change]:
    """How config and versions differ from those that the run in `path` had last.

    Raises:
        CheckpointError: the run's own records cannot be read.
    """
    recorded = read_json(path, MANIFEST)
    try:
        before, after = (yaml.safe_load(text) for text in ((path / CONFIG).read_text("utf-8"), config_yaml))
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path / CONFIG} is damaged: {error}") from error
    last = [recorded, *recorded.get("resumed", [])][-1].get("versions", {})
    now = manifest.get("versions", {})
    compared = (last.keys() & now.keys()) - MAY_BE_NEWER
    old, new = ({key: versions[key] for key in compared} for versions in (last, now))
    return [*changes(before or {}, after or {}), *changes(old, new, "versions")]


def refuse_changes(path: Path, found: Sequence[Change], allow_change: Sequence[str]) -> None:
    """Let only those pass that are no other run, or that the user allows.

    Raises:
        CheckpointError: shows the others, and how to allow them.
    """
    never = [change for change in found if change.is_below(NEVER_CHANGES)]
    if never:
        raise CheckpointError(
            f"{path} was started from other weights:\n  {never[0]}\nStart afresh in another --run-dir"
        )
    refused = [change for change in found if not change.is_below((*MAY_CHANGE, *allow_change))]
    if refused:
        keys = " ".join(f"--allow-change {change.key}" for change in refused)
        raise CheckpointError(
            f"{path} is another run:\n  "
            + "\n  ".join(map(str, refused))
            + f"\nUndo the change, start afresh in another --run-dir, or go on all the same, which is recorded: {keys}"
        )


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    """What differs between two nested mappings, by dotted keys; lists count as `key[0]`, `key[1]`, ..."""
    old, new = _flat(before, prefix), _flat(after, prefix)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key, ABSENT) != new.get(key, ABSENT):
            yield Change(key, old.get(key, ABSENT), new.get(key, ABSENT))


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, item in value.items() for k, v in _flat(item, f"{key}.{name}" if key else name).items()}
    if isinstance(value, list) and value:
        return {k: v for index, item in enumerate(value) for k, v in _flat(item, f"{key}[{index}]").items()}
    return {key: value}
