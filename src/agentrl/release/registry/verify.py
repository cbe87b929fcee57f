"""Is all of a bundle there, byte by byte; and what keeps a release of it from starting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.place import ReleasePlace
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.bundle import Bundle, read_bundle
from agentrl.release.registry.formats import check_format
from agentrl.release.registry.listing import read_listing
from agentrl.release.registry.manifest import FOLDER, Part
from agentrl.strict_json import canonical_json

WEIGHTS = ("policy", "baseline", "reward_model")
NEEDED = ("policy", "baseline", "trainer_config", "code_version", "seeds")
"""Keys without which nobody could say what is being released."""


@dataclass(frozen=True)
class Verification:
    """What was read, and what is wrong with it."""

    bundle: str
    parts: int
    files: int
    size: int
    """Bytes that were read and hashed."""
    problems: tuple[str, ...]
    """A sentence each, with the part and the file; none: all is as it was."""


def verify_bundle(place: ReleasePlace, id_or_prefix: str) -> Verification:
    """Read every file of every part and compare it with its digest.

    Raises:
        ConfigError: there is no such bundle.
        ReleaseError: its manifest is damaged, or the store cannot be read.
    """
    bundle, blobs = read_bundle(place, id_or_prefix), BlobStore(place)
    problems: list[str] = []
    seen: dict[str, int] = {}
    parts = bundle.parts
    if problem := _manifest_problem(blobs, bundle):
        problems.append(problem)
    for where, part in parts:
        problems += (f"{where} ({part.name}): {problem}" for problem in _part_problems(blobs, where, part, seen))
    return Verification(bundle.id, len(parts), len(seen), sum(seen.values()), tuple(problems))


def completeness_gaps(place: ReleasePlace, id_or_prefix: str) -> list[str]:
    """Why a release of this bundle may not leave its draft; nothing: it is whole, and somebody has looked through it.

    Raises:
        ReleaseError: the store cannot be read.
    """
    try:
        found = verify_bundle(place, id_or_prefix)
        bundle = read_bundle(place, id_or_prefix)
    except ConfigError as error:
        return [str(error)]
    except ReleaseError as error:
        return [f"bundle {id_or_prefix[:19]}: {error}"]
    gaps = [f"bundle {bundle.id[:19]}: {problem}" for problem in found.problems]
    gaps += [f"bundle {bundle.id[:19]}: its manifest has no {key}" for key in NEEDED if not bundle.manifest.get(key)]
    scan = bundle.manifest.get("scan") or {}
    if not scan.get("looked_at"):
        gaps.append(f"bundle {bundle.id[:19]}: nobody looked for licences and personal data in it; create it anew")
    return gaps


def _manifest_problem(blobs: BlobStore, bundle: Bundle) -> str:
    try:
        kept = blobs.read(bundle.id.removeprefix("sha256:"))
    except (ReleaseError, OSError) as error:
        return f"manifest: {error}"
    return "" if kept == canonical_json(bundle.manifest) else "manifest: the folder's is not the store's"


def _part_problems(blobs: BlobStore, where: str, part: Part, seen: dict[str, int]) -> Iterator[str]:
    try:
        if part.kind != FOLDER:
            yield from _file_problems(blobs, part.name, part.sha256, part.size, seen)
            return
        listed = read_listing(blobs, part.sha256)
    except (ReleaseError, OSError) as error:
        yield str(error)
        return
    if (total := sum(size for _, size in listed.values())) != part.size:
        yield f"its files have {total} bytes, the manifest says {part.size}"
    for name, (sha256, size) in listed.items():
        is_new = sha256 not in seen
        problems = list(_file_problems(blobs, name, sha256, size, seen))
        yield from problems
        if is_new and not problems and where in WEIGHTS and part.name != "declaration.json":
            yield from _format_problems(blobs, name, sha256)


def _file_problems(blobs: BlobStore, name: str, sha256: str, size: int, seen: dict[str, int]) -> Iterator[str]:
    if sha256 in seen:
        return
    try:
        with blobs.open(sha256) as file:
            found = os.fstat(file.fileno()).st_size
    except (ReleaseError, OSError) as error:
        yield f"{name}: {error}"
        return
    seen[sha256] = found
    if found != size:
        yield f"{name}: {found} bytes, the manifest says {size}"


def _format_problems(blobs: BlobStore, name: str, sha256: str) -> Iterator[str]:
    """Somebody else may have written the manifest: what may run code is no part of a bundle, whoever made it."""
    if Path(name).name == "declaration.json" or name.startswith("files/"):
        return
    try:
        check_format(blobs.path(sha256), name)
    except (ReleaseError, OSError) as error:
        yield str(error)
