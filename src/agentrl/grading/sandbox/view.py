"""What a sandbox sees of the machine: the interpreter, its site-packages and the system's libraries, read-only."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/lib32", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/usr/share/nltk_data", "/usr/local/share/nltk_data")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
NLTK_DATA = ("nltk_data", "share/nltk_data", "lib/nltk_data")
"""Below the environment's prefix: where nltk looks for its corpora."""


@dataclass(frozen=True)
class View:
    """Paths are the same inside and outside."""

    executable: str
    """The interpreter, all links followed."""
    prefix: str
    """`sys.prefix` of the trainer: that of its virtual environment."""
    import_paths: tuple[str, ...]
    """`sys.path` inside: the standard library and site-packages; no path of the project."""
    read_only: tuple[str, ...]
    """Files and folders, none of them within another."""
    links: tuple[tuple[str, str], ...]
    """Symbolic links such as /lib -> usr/lib, and what they point to."""
    devices: tuple[str, ...]
    scratch: str
    """Where temporary folders are made where no file system of their own is to be had."""
    tmp: str
    """Where a grade's own file system is mounted: /tmp, unless the interpreter's packages lie below it."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_this_interpreter(cls) -> View:
        executable = os.path.realpath(sys.executable)
        paths = sysconfig.get_paths()
        library = os.path.realpath(paths["stdlib"])
        packages = [os.path.realpath(each) for each in _site_packages() if os.path.isdir(each)]
        platform_library = os.path.join(os.path.realpath(paths["platstdlib"]), "lib-dynload")
        base_libraries = [os.path.join(os.path.realpath(sys.base_prefix), name) for name in ("lib", "lib64")]
        corpora = [os.path.join(sys.prefix, name) for name in NLTK_DATA]
        links = tuple((path, os.readlink(path)) for path in SYSTEM_LIBRARIES if os.path.islink(path))
        linked = {path for path, _ in links}
        seen = [path for path in SYSTEM_LIBRARIES if path not in linked]
        seen += [executable, library, *base_libraries, *packages, *SYSTEM_FILES, *map(os.path.realpath, corpora)]
        dynload = [platform_library, os.path.join(library, "lib-dynload")]
        import_paths = dict.fromkeys([library, *filter(os.path.isdir, dynload), *packages])
        devices = tuple(filter(os.path.exists, DEVICES))
        scratch = os.path.realpath(tempfile.gettempdir())
        read_only = _outermost(seen)
        tmp = "/grade" if any(path.startswith("/tmp/") for path in read_only) else "/tmp"
        return cls(executable, sys.prefix, tuple(import_paths), read_only, links, devices, scratch, tmp)


def _site_packages() -> list[str]:
    own = site.getsitepackages() if hasattr(site, "getsitepackages") else []
    return [*own, site.getusersitepackages()] if site.ENABLE_USER_SITE else own


def _outermost(paths: list[str]) -> tuple[str, ...]:
    """Those that exist and lie within no other."""
    existing = sorted({path for path in paths if os.path.exists(path)})
    kept: list[str] = []
    for path in existing:
        if not any(path == outer or path.startswith(outer + os.sep) for outer in kept):
            kept.append(path)
    return tuple(kept)
