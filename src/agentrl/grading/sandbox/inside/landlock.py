"""Landlock: which files a grade may open, enforced by the kernel whatever is mounted (Linux 5.13 and later)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from agentrl.grading.sandbox.inside.kernel import PR_SET_NO_NEW_PRIVS, prctl, syscall

WRITE_FILE, READ_FILE, READ_DIRECTORY, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
MAKE_DEVICES = 1 << 6 | 1 << 11
EXECUTE = 1 << 0
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""What each version of landlock can refuse; later ones as 5."""


def version() -> int:
    """0 where the kernel has none, or has it turned off."""
    try:
        return syscall("landlock_create_ruleset", 0, 0, 1)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str], devices: Iterable[str]) -> None:
    """From here on, open nothing else, bind and connect no TCP port, signal nobody outside.

    Raises:
        OSError: the kernel has no landlock.
    """
    rules_version = version()
    every = RIGHTS[max(1, min(rules_version, 5))]
    # file rights, then TCP ports (4), then abstract sockets and signals (6): a version knows the fields up to its own
    size = 8 if rules_version < 4 else 16 if rules_version < 6 else 24
    attributes = struct.pack("<QQQ", every, 0b11, 0b11)[:size]
    ruleset = syscall("landlock_create_ruleset", attributes, size, 0)
    try:
        for path in readable:
            _allow(ruleset, path, READ_FILE | READ_DIRECTORY)
        for path in writable:
            _allow(ruleset, path, every & ~MAKE_DEVICES & ~EXECUTE)
        for path in devices:
            _allow(ruleset, path, (READ_FILE | WRITE_FILE | TRUNCATE) & every)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    try:
        if not os.path.isdir(path):
            rights &= READ_FILE | WRITE_FILE | TRUNCATE
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, fd), 12)
        syscall("landlock_add_rule", ruleset, 1, rule, 0)
    finally:
        os.close(fd)
