"""Two bundles, part by part: what is the same, what changed, and in texts, which lines of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from agentrl.errors import ReleaseError
from agentrl.release.place import ReleasePlace
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.bundle import read_bundle
from agentrl.release.registry.listing import read_listing
from agentrl.release.registry.manifest import FILE, FOLDER, MANY, ONE, Part
from agentrl.runs.identity import ABSENT, changes

MAX_TEXT_BYTES = 1_000_000
MAX_DETAILS = 20
SAME, CHANGED, ADDED, REMOVED = "same", "changed", "added", "removed"


@dataclass(frozen=True)
class PartChange:
    """One part of both bundles, or of one of them."""

    part: str
    """Key of the manifest and name, such as `graders/finqa-grader`."""
    state: str
    """same, changed, added or removed."""
    before: str
    """Version and beginning of the digest; empty where it was not there."""
    after: str
    details: tuple[str, ...] = ()
    """Keys that changed, of configs and rules; files that did, of folders."""


def diff_bundles(place: ReleasePlace, before: str, after: str) -> list[PartChange]:
    """Every part of either bundle, in the order of the manifest; then code, seeds and parent.

    Raises:
        ConfigError: there is no such bundle.
        ReleaseError: a manifest is damaged. A part whose files are is told in its details.
    """
    old, new, blobs = read_bundle(place, before), read_bundle(place, after), BlobStore(place)
    found = []
    for key in (*ONE, *MANY):
        was, now = _named(old.manifest, key), _named(new.manifest, key)
        for label in dict.fromkeys((*was, *now)):
            found.append(_change(blobs, label, was.get(label), now.get(label)))
    for key in ("code_version", "seeds", "parent"):
        was_value, now_value = old.manifest.get(key), new.manifest.get(key)
        details = tuple(_keys({key: was_value}, {key: now_value}))
        state = SAME if was_value == now_value else CHANGED
        found.append(PartChange(key, state, "", "", details))
    return found


def _named(manifest: Mapping[str, Any], key: str) -> dict[str, Part]:
    value = manifest.get(key)
    records = value if isinstance(value, list) else [value] if value else []
    parts = [Part.from_record(record) for record in records]
    # the name of a single part may change, such as a checkpoint's: it is still the policy
    return {key: parts[0]} if key in ONE and parts else {f"{key}/{part.name}": part for part in parts}


def _change(blobs: BlobStore, label: str, before: Part | None, after: Part | None) -> PartChange:
    if before is None or after is None:
        state = ADDED if before is None else REMOVED
        return PartChange(label, state, _shown(before), _shown(after))
    if before.sha256 == after.sha256:
        return PartChange(label, SAME, _shown(before), _shown(after))
    try:
        details = tuple(_details(blobs, before, after))
    except ReleaseError as error:
        details = (str(error),)
    return PartChange(label, CHANGED, _shown(before), _shown(after), details[:MAX_DETAILS])


def _shown(part: Part | None) -> str:
    return "" if part is None else f"{part.version} {part.sha256[:12]}".strip()


def _details(blobs: BlobStore, before: Part, after: Part) -> Iterator[str]:
    if before.kind == after.kind == FOLDER:
        old, new = read_listing(blobs, before.sha256), read_listing(blobs, after.sha256)
        for name in sorted(old.keys() | new.keys()):
            was, now = old.get(name), new.get(name)
            if was is None or now is None:
                yield f"{name}: {'added' if was is None else 'removed'}"
            elif was[0] != now[0]:
                yield from (f"{name}: {each}" for each in _inside(blobs, was, now, "changed"))
    elif before.kind == after.kind == FILE:
        yield from _inside(blobs, (before.sha256, before.size), (after.sha256, after.size), "changed")


def _inside(blobs: BlobStore, before: tuple[str, int], after: tuple[str, int], otherwise: str) -> Iterator[str]:
    """Keys that differ where both are JSON or YAML, else that they do."""
    old, new = (_mapping(blobs, *each) for each in (before, after))
    keys = [] if old is None or new is None else list(_keys(old, new))
    yield from keys or [otherwise]


def _mapping(blobs: BlobStore, sha256: str, size: int) -> Mapping[str, Any] | None:
    if size > MAX_TEXT_BYTES:
        return None
    data = blobs.read(sha256)
    try:
        found = json.loads(data)
    except ValueError:
        try:
            found = yaml.safe_load(data)
        except (yaml.YAMLError, ValueError):
            return None
    return found if isinstance(found, Mapping) else None


def _keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for each in changes(before, after):
        old, new = (
            "absent" if value is ABSENT else json.dumps(value, default=str) for value in (each.before, each.after)
        )
        yield f"{each.key}: {old[:80]} -> {new[:80]}"
