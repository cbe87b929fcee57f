"""Files by the sha256 of what is in them: kept once, never changed, and verified whenever they are read.

FOLDER/blobs/3f/3fa9...   the files of this machine
table `blobs`             small ones again, where the database is shared: another machine reads them from there

A blob that is not what its name says is refused, never mended: somebody has to look at why.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from sqlalchemy import select, update

from agentrl.disk import sync
from agentrl.errors import ReleaseError
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import blobs

SHA256 = re.compile(r"[0-9a-f]{64}")
PIECE = 4 * 1024 * 1024
MAX_SHARED_BYTES = 8 * 1024 * 1024
"""Of a blob that also goes into a database that machines share; weights do not."""


class BlobError(ReleaseError):
    """A blob is missing, or is not what its digest says."""


@dataclass(frozen=True)
class BlobStore:
    """The blobs of a place."""

    place: ReleasePlace

    def path(self, sha256: str) -> Path:
        """Where the blob is kept; it need not be there.

        Raises:
            BlobError: it is no digest, and could lead anywhere.
        """
        if not SHA256.fullmatch(sha256):
            raise BlobError(f"found {sha256[:80]!r} for a digest; allowed: 64 hexadecimal digits")
        return self.place.blobs / sha256[:2] / sha256

    def put_bytes(self, data: bytes, *, is_shared: bool = True) -> str:
        """Keep some bytes; returns their sha256."""
        return self._put(BytesIO(data), len(data), is_shared)

    def put_file(self, path: Path, *, is_linked: bool = False, is_shared: bool = True) -> tuple[str, int]:
        """Keep a copy of a file; returns its sha256 and size in bytes. The copy is what was hashed.

        Args:
            is_linked: a hard link in place of the copy where the disk can: no room is taken, and whoever changes the
                file in place breaks the blob, which the next reader is told.
            is_shared: into the database too, if it is small and the database is not a file of this machine.

        Raises:
            BlobError: it is a symbolic link or no file.
            OSError: it cannot be read or kept.
        """
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if is_linked:
                return self._link(path, file, size, is_shared), size
            return self._put(file, size, is_shared), size

    @contextmanager
    def open(self, sha256: str) -> Iterator[IO[bytes]]:
        """The blob as an open file, after all of it was read and found to be what its digest says.

        Raises:
            BlobError: it is nowhere, or not what its digest says.
        """
        path = self.path(sha256)
        if not path.is_symlink() and not path.exists():
            self._fetch(sha256)
        try:
            with _opened(path) as file:
                if (found := _digest(file)) != sha256:
                    raise BlobError(f"{path}: holds {found}, not what its name says; bring the file back from a copy")
                file.seek(0)
                yield file
        except FileNotFoundError:
            raise BlobError(f"blob {sha256} is missing: neither in {self.place.blobs} nor in the store") from None

    def read(self, sha256: str) -> bytes:
        """All of a blob.

        Raises:
            BlobError: see `open`.
        """
        with self.open(sha256) as file:
            return file.read()

    def copy_out(self, sha256: str, target: Path) -> None:
        """Write the blob to a new file.

        Raises:
            BlobError: see `open`.
            OSError: the file is there already, or cannot be written.
        """
        with self.open(sha256) as file, target.open("xb") as out:
            shutil.copyfileobj(file, out, PIECE)
            out.flush()
            os.fsync(out.fileno())

    def _put(self, file: IO[bytes], size: int, is_shared: bool) -> str:
        draft = self._draft()
        digest = hashlib.sha256()
        try:
            with draft.open("xb") as out:
                while piece := file.read(PIECE):
                    digest.update(piece)
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
                os.fchmod(out.fileno(), 0o444)
            sha256 = digest.hexdigest()
            self._settle(draft, sha256)
        finally:
            draft.unlink(missing_ok=True)
        self._share(sha256, size, is_shared)
        return sha256

    def _link(self, path: Path, file: IO[bytes], size: int, is_shared: bool) -> str:
        sha256 = _digest(file)
        draft = self._draft()
        try:
            os.link(path, draft, follow_symlinks=False)
        except OSError:  # another disk, or one without links
            file.seek(0)
            return self._put(file, size, is_shared)
        try:
            self._settle(draft, sha256)
        finally:
            draft.unlink(missing_ok=True)
        self._share(sha256, size, is_shared)
        return sha256

    def _draft(self) -> Path:
        self.place.blobs.mkdir(parents=True, exist_ok=True)
        return self.place.blobs / f".{os.getpid()}-{secrets.token_hex(6)}.partial"

    def _settle(self, draft: Path, sha256: str) -> None:
        """Give the draft its name, unless a blob has it already; one that is damaged is put right by the good bytes."""
        path = self.path(sha256)
        path.parent.mkdir(exist_ok=True)
        if not _is_whole(path, sha256):
            os.replace(draft, path)
            sync(path.parent)

    def _share(self, sha256: str, size: int, is_shared: bool) -> None:
        content = None
        if is_shared and size <= MAX_SHARED_BYTES and not self.place.store.is_sqlite:
            content = self.path(sha256).read_bytes()
        with self.place.store.write() as connection:
            row = {"sha256": sha256, "size": size, "content": content}
            connection.execute(self.place.store.insert(blobs).values(row).on_conflict_do_nothing())
            if content is not None:
                empty = (blobs.c.sha256 == sha256) & blobs.c.content.is_(None)
                connection.execute(update(blobs).where(empty).values(content=content))

    def _fetch(self, sha256: str) -> None:
        """From the database into the folder, if it is there."""
        with self.place.store.read() as connection:
            content = connection.execute(select(blobs.c.content).where(blobs.c.sha256 == sha256)).scalar_one_or_none()
        if content is None:
            return
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise BlobError(f"{self.place.store.name}: blob {sha256} holds {found}, not what its name says")
        self.put_bytes(bytes(content))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A real file, whatever somebody put in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        if path.is_symlink():
            raise BlobError(f"{path}: is a symbolic link; allowed: a file") from None
        raise error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BlobError(f"{path}: is no file")
        yield file


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with _opened(path) as file:
            return _digest(file) == sha256
    except (OSError, BlobError):
        return False
