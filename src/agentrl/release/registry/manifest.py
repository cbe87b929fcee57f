"""What a bundle says: every part of a policy's making by name, version and digest. Its id is the manifest's digest.

Two bundles with one id are one bundle, on every machine and in every year.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agentrl.errors import ReleaseError
from agentrl.strict_json import canonical_json

FORMAT = "agentrl-bundle/1"
ONE = ("policy", "baseline", "reward_model", "rubric", "tool_policy", "trainer_config")
"""Keys of the manifest with one part, or null."""
MANY = ("graders", "datasets", "eval_suites", "evaluations", "prompts", "tool_specs")
"""Keys with a list of parts."""
FOLDER, FILE = "folder", "file"
BLOB = "blob:sha256:"


@dataclass(frozen=True)
class Part:
    """One thing that a policy was made from, or measured with."""

    name: str
    version: str
    """What its owner calls this state of it: a step, a date, a digest of its own."""
    sha256: str
    """Of the file, or of the listing of the folder's files."""
    size: int
    """Bytes of the file, or of all files of the folder."""
    kind: str = FILE
    """file or folder."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What people are shown of it without opening it, such as the number of tasks."""

    @property
    def uri(self) -> str:
        """Where it is: among the blobs of the place."""
        return f"{BLOB}{self.sha256}"

    def to_record(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {**asdict(self), "facts": dict(self.facts), "uri": self.uri}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Part:
        """The inverse.

        Raises:
            ReleaseError: it is no part.
        """
        try:
            found = cls(
                name=str(record["name"]),
                version=str(record["version"]),
                sha256=str(record["sha256"]),
                size=int(record["size"]),
                kind=str(record["kind"]),
                facts=dict(record.get("facts") or {}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ReleaseError(f"the manifest has a part that cannot be read ({error!r})") from None
        if record.get("uri") != found.uri or found.kind not in (FILE, FOLDER):
            raise ReleaseError(f"the manifest's part {found.name} is at {record.get('uri')!r}; allowed: {found.uri}")
        return found


def bundle_id(manifest: Mapping[str, Any]) -> str:
    """`sha256:` and the digest of the manifest's canonical JSON."""
    return f"sha256:{hashlib.sha256(canonical_json(manifest)).hexdigest()}"


def parts_of(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """Every part with its place, such as `policy` or `graders[0]`.

    Raises:
        ReleaseError: one cannot be read.
    """
    for key in ONE:
        if manifest.get(key) is not None:
            yield key, Part.from_record(manifest[key])
    for key in MANY:
        for index, each in enumerate(manifest.get(key) or ()):
            yield f"{key}[{index}]", Part.from_record(each)
