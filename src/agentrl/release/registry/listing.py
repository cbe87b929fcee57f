"""A folder as one blob: which file is which blob. Nothing in it leads out of the folder that it is unpacked into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from agentrl.release.registry.blobs import BlobError, BlobStore
from agentrl.strict_json import canonical_json, strict_json

FORMAT = "agentrl-files/1"
Listing = Mapping[str, tuple[str, int]]
"""Path below the folder -> (sha256, bytes)."""


def put_files(blobs: BlobStore, files: Mapping[str, Path], *, is_linked: bool = False) -> tuple[str, int]:
    """Keep files under these names; returns the sha256 of their listing, and their bytes together.

    Raises:
        BlobError: a name leads elsewhere, or a file is a link.
        OSError: one cannot be read or kept.
    """
    listed = {checked_name(name): blobs.put_file(path, is_linked=is_linked) for name, path in sorted(files.items())}
    record = {
        "format": FORMAT,
        "files": {name: {"sha256": sha256, "size": size} for name, (sha256, size) in listed.items()},
    }
    return blobs.put_bytes(canonical_json(record)), sum(size for _, size in listed.values())


def read_listing(blobs: BlobStore, sha256: str) -> Listing:
    """The inverse.

    Raises:
        BlobError: it is missing or changed, is no listing, or a name in it leads elsewhere.
    """
    try:
        record = strict_json(blobs.read(sha256).decode("utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r}")
        return {checked_name(name): (str(each["sha256"]), int(each["size"])) for name, each in record["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BlobError(f"blob {sha256} is no listing of files ({error})") from None


def checked_name(name: str) -> str:
    """A path below a folder, as it is.

    Raises:
        BlobError: it is absolute, climbs, or means something else on another system.
    """
    path = PurePosixPath(name)
    is_plain = name and str(path) == name and not path.is_absolute() and ".." not in path.parts
    if not is_plain or any(char in name for char in "\\:\0\n\r") or len(name) > 500 or name == ".":
        raise BlobError(f"found the file name {name[:120]!r}; allowed: a path below the folder, such as a/b.json")
    return name


def files_below(folder: Path) -> dict[str, Path]:
    """All files of a folder by their paths in it; hidden ones are no part of it.

    Raises:
        BlobError: one is a symbolic link, or leads through one.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        if path.is_symlink():
            raise BlobError(f"{path}: is a symbolic link; allowed: files")
        if path.is_file():
            found[inside.as_posix()] = path
    return found


def unpack(blobs: BlobStore, sha256: str, folder: Path) -> list[Path]:
    """Write all files of a listing into a folder that is there; returns them.

    Raises:
        BlobError: a blob is missing or changed.
        OSError: a file is there already, or cannot be written.
    """
    written = []
    for name, (blob, _) in read_listing(blobs, sha256).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        blobs.copy_out(blob, target)
        written.append(target)
    return written
