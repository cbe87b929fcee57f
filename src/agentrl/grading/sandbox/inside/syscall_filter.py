"""The seccomp filter of a grade: no sockets, no new processes, nothing that reaches another process or the kernel.

A list of what is refused, not of what is allowed: numpy and its like use what they need, and what a call could do to
others is stopped by the namespaces and by landlock as well. 32-bit and x32 calls have other numbers and end the grade.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from agentrl.grading.sandbox.inside.kernel import (
    AUDIT_ARCH,
    CLONE_THREAD,
    MACHINE,
    PR_SET_NO_NEW_PRIVS,
    SYSCALLS,
    prctl,
    syscall,
)

LOAD, EQUALS, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24
"""Offsets into `struct seccomp_data`; of the arguments, the low half: both machines are little-endian."""
NEW_NAMESPACES = 0x7E020000
SPECIAL = (
    "clone clone3 kill tgkill socketpair fcntl ioctl prctl prlimit64 fallocate "
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
).split()
BY_PATH = (
    "chmod fchmodat fchmodat2 chown lchown fchownat setxattr lsetxattr removexattr lremovexattr setxattrat "
    "removexattrat file_setattr utime utimes futimesat utimensat truncate fchmod fchown fsetxattr fremovexattr"
).split()
"""What may be done to a file without opening it to write, which landlock does not look at (truncate before Linux 6.2).
Refused where all of the machine's files are in reach; with a root of one's own there is nothing to do it to."""
AF_UNIX, SOCK_STREAM = 1, 1
IOCTLS = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""Whether it is a terminal (TCGETS, TCGETS2), its size, bytes to read, blocking, close on exec. Others change the
attributes of a file that is only read, or name a process that a socket sends signals to."""
FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 36, 37, 38, 1030, 1032, 1033, 1034)
"""Duplicates, flags, locks, the size of a pipe, seals. Others hold up whoever opens a file (leases), tell who does, or
leave hints in it that outlive the grade."""
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_MM, PR_SCHED_CORE, PR_SET_PTRACER = 1, 4, 35, 62, 0x59616D61
RLIMIT_CORE = 4

Instruction = tuple[int, int, int, int]


def refuse(number: int = errno.EPERM) -> Instruction:
    return (RETURN, 0, 0, REFUSE | number)


MYSELF = 0xFFFFFFF0
"""Stands in a program for the process id that it is installed in."""


def program(*, has_own_root: bool) -> list[Instruction]:
    """The filter; a process may signal nobody but itself."""
    passed = [*SPECIAL, *BY_PATH] if has_own_root else SPECIAL
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUALS, 1, 0, AUDIT_ARCH[MACHINE]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if MACHINE == 0:  # x32 numbers of x86_64
        code += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]
    for name, numbers in SYSCALLS.items():
        if name not in passed and numbers[MACHINE] >= 0:
            code += [(EQUALS, 0, 1, numbers[MACHINE]), refuse()]

    def special(name: str, *body: Instruction) -> None:
        code.append((EQUALS, 0, len(body), SYSCALLS[name][MACHINE]))
        code.extend(body)

    def unless_first_is(value: int) -> list[Instruction]:
        return [(LOAD, 0, 0, FIRST), (EQUALS, 0, 1, value), (RETURN, 0, 0, ALLOW), refuse()]

    def unless_any(offset: int, *values: int) -> list[Instruction]:
        tests = [step for value in values for step in [(EQUALS, 0, 1, value), refuse()]]
        return [(LOAD, 0, 0, offset), *tests, (RETURN, 0, 0, ALLOW)]

    def if_any(offset: int, *values: int) -> list[Instruction]:
        tests = [step for value in values for step in [(EQUALS, 0, 1, value), (RETURN, 0, 0, ALLOW)]]
        return [(LOAD, 0, 0, offset), *tests, refuse()]

    # the flags of clone3 lie in memory that a filter cannot read: without it, glibc falls back to clone
    special("clone3", refuse(errno.ENOSYS))
    threads_only = [(ANY_BIT, 0, 1, NEW_NAMESPACES), refuse(), (ANY_BIT, 0, 1, CLONE_THREAD), (RETURN, 0, 0, ALLOW)]
    special("clone", (LOAD, 0, 0, FIRST), *threads_only, refuse())
    special("kill", *unless_first_is(MYSELF))
    special("tgkill", *unless_first_is(MYSELF))
    # asyncio wakes its loop through a pair; one of datagrams could be sent from to any address
    stream = [(LOAD, 0, 0, SECOND), (AND, 0, 0, 0xF), (EQUALS, 0, 1, SOCK_STREAM), (RETURN, 0, 0, ALLOW), refuse()]
    special("socketpair", (LOAD, 0, 0, FIRST), (EQUALS, 1, 0, AF_UNIX), refuse(), *stream)
    # with a limit of 0 a crash is still handed to the machine's handler of core dumps, with the 1 that is set it is not
    special("prlimit64", (LOAD, 0, 0, FIRST), (EQUALS, 1, 0, 0), refuse(), *unless_any(SECOND, RLIMIT_CORE))
    special("fcntl", *if_any(SECOND, *FCNTLS))
    special("ioctl", *if_any(SECOND, *IOCTLS))
    special("prctl", *unless_any(FIRST, PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_MM, PR_SCHED_CORE, PR_SET_PTRACER))
    if not has_own_root:  # blocks that no byte was written to are not counted as written; libraries write zeros instead
        special("fallocate", refuse(errno.EOPNOTSUPP))
    return [*code, (RETURN, 0, 0, ALLOW)]


class Filter(ctypes.Structure):
    """`struct sock_fprog`, made once; children install it."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    def __init__(self, *, has_own_root: bool) -> None:
        """
        Args:
            has_own_root: the machine's files are not mounted.

        Raises:
            OSError: the machine is neither x86_64 nor aarch64.
        """
        if MACHINE < 0:
            raise OSError(errno.ENOSYS, "seccomp: the numbers of this machine's system calls are not known")
        code = program(has_own_root=has_own_root)
        self._packed = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *each) for each in code))
        self._own = [8 * place + 4 for place, each in enumerate(code) if each[3] == MYSELF]
        super().__init__(len(code), ctypes.addressof(self._packed))

    def install(self) -> None:
        """From here on, for this process and its threads, until they end.

        Raises:
            OSError: the kernel has no seccomp filters.
        """
        for offset in self._own:
            struct.pack_into("<I", self._packed, offset, os.getpid())
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall("seccomp", 1, 0, ctypes.byref(self))
