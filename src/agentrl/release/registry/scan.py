"""What a policy was made from, looked through before anybody is served by it: licences, secrets, personal data.

Findings are counted and kept with the bundle, without what was found. They keep nothing from being released: whether
an address in the data may be there is for people to say. That nobody looked does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agentrl.monitoring.personal_forms import LOCALES
from agentrl.monitoring.redaction import findings
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.listing import read_listing
from agentrl.release.registry.manifest import FILE, FOLDER, Part

VERSION = 1
NOT_STATED = "not stated"
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")
CARD = "README.md"
KNOWN_TEXTS = {
    "apache-2.0": re.compile(r"Apache License\s+Version 2\.0"),
    "mit": re.compile(r"Permission is hereby granted, free of charge, to any person obtaining a copy"),
    "bsd-3-clause": re.compile(r"Redistribution and use in source and binary forms.*Neither the name", re.DOTALL),
    "gpl-3.0": re.compile(r"GNU GENERAL PUBLIC LICENSE\s+Version 3"),
    "cc-by-4.0": re.compile(r"Creative Commons Attribution 4\.0 International"),
    "cc-by-sa-4.0": re.compile(r"Creative Commons Attribution-ShareAlike 4\.0"),
}
SCANNED = ("datasets", "prompts", "trainer_config", "tool_specs", "tool_policy", "graders", "rubric")
TEXT_NAMES = (".json", ".jsonl", ".yaml", ".yml", ".md", ".txt", ".py", ".jinja")


@dataclass(frozen=True)
class Scan:
    """What was found."""

    licences: Mapping[str, str]
    """Of baseline, data and so on; `not stated` where nobody does."""
    found: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Part -> kind -> how often; parts in which nothing was found are not there."""
    looked_at: tuple[str, ...] = ()
    """Parts."""

    def to_record(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {
            "version": VERSION,
            "locales": list(LOCALES),
            "licences": dict(sorted(self.licences.items())),
            "found": {part: dict(kinds) for part, kinds in sorted(self.found.items())},
            "looked_at": sorted(self.looked_at),
        }


def scan_parts(blobs: BlobStore, parts: Iterable[tuple[str, Part]], licences: Mapping[str, str]) -> Scan:
    """Read all texts among the parts.

    Raises:
        BlobError: one is missing or changed.
    """
    found: dict[str, Mapping[str, int]] = {}
    looked_at = []
    for place, part in parts:
        if place.partition("[")[0] not in SCANNED:
            continue
        label = f"{place.partition('[')[0]}/{part.name}"
        looked_at.append(label)
        if kinds := findings(_texts(blobs, part)):
            found[label] = kinds
    return Scan(dict(licences), found, tuple(looked_at))


def licence_of(folder: Path) -> str:
    """What the card of a folder says, else which licence its LICENSE file holds, else `not stated`."""
    card = folder / CARD
    if card.is_file():
        head = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", errors="replace"), re.DOTALL)
        try:
            told = yaml.safe_load(head[1]) if head else None
        except yaml.YAMLError:
            told = None
        if isinstance(told, dict) and isinstance(licence := told.get("license"), str) and licence:
            return licence
    for name in LICENCE_FILES:
        if (folder / name).is_file():
            text = (folder / name).read_text("utf-8", errors="replace")[:20_000]
            return next((known for known, form in KNOWN_TEXTS.items() if form.search(text)), f"see {name}")
    return NOT_STATED


def _texts(blobs: BlobStore, part: Part) -> Iterable[str]:
    if part.kind == FILE:
        yield from _lines(blobs.read(part.sha256))
    elif part.kind == FOLDER:
        for name, (sha256, _) in read_listing(blobs, part.sha256).items():
            if name.endswith(TEXT_NAMES):
                yield from _lines(blobs.read(sha256))


def _lines(data: bytes) -> Iterable[str]:
    """Line by line, as a secret's form is: but a private key has many, so what is short is read whole."""
    text = data.decode("utf-8", errors="replace")
    return [text] if len(text) < 1_000_000 else text.split("\n")
