"""Users, mounts, processes and network of a sandbox's own, and a root that holds the interpreter only."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from agentrl.grading.sandbox.inside.folders import MAX_FILES
from agentrl.grading.sandbox.inside.kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    die_with_parent,
    make_read_only,
    mount,
    syscall,
    unshare,
)

NOBODY = 65534


def enter_namespaces(view: dict[str, Any], *, has_own_root: bool) -> tuple[int, int]:
    """Continue as process 1 of new namespaces; the caller's process stays outside and waits for it.

    Args:
        view: what is to be seen, see `agentrl.grading.sandbox.view`.
        has_own_root: the root is a sandbox's already, such as bubblewrap's.

    Returns:
        A descriptor of the process namespace, to return to it, and the user id that grades run under.

    Raises:
        OSError: the kernel or its settings allow no such namespaces.
    """
    user = _own_users()
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC
    unshare(flags if has_own_root else flags | CLONE_NEWNET | CLONE_NEWUTS)
    if inner := os.fork():
        _wait(inner)
    die_with_parent(signal.SIGKILL)
    pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    if has_own_root:
        # /proc shows the processes of the sandbox around this one
        mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0,nr_inodes=1,mode=555")
    else:
        _own_root(view)
    make_read_only("/")  # devices too: what is written to one goes there all the same, but their times stay
    return pid_namespace, user


def mount_tmp(path: str, megabytes: int, user: int) -> None:
    """A fresh folder for temporary files, for this process alone; what lies in it is gone with the process."""
    unshare(CLONE_NEWNS)
    options = f"size={megabytes}m,nr_inodes={MAX_FILES},mode=700,uid={user},gid={user}"
    mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options)


def _own_users() -> int:
    """A user namespace with every capability in it; root's has the user nobody as well, for grades to run under."""
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        unshare(CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        return user
    ready, go = os.pipe()
    if not (helper := os.fork()):  # only a process outside may map a second user
        try:
            os.close(go)
            if not os.read(ready, 1):
                os._exit(1)  # there is no namespace
            for kind in ("uid", "gid"):
                _write(f"/proc/{os.getppid()}/{kind}_map", f"0 0 1\n{NOBODY} {NOBODY} 1\n")
            os._exit(0)
        except BaseException:
            os._exit(1)
    unshare(CLONE_NEWUSER)
    os.write(go, b"1")
    os.close(ready)
    os.close(go)
    if os.waitpid(helper, 0)[1]:
        raise PermissionError("the user nobody could not be mapped into a user namespace")
    return NOBODY


def _own_root(view: dict[str, Any]) -> None:
    """A root of empty folders, with what `view` names mounted read-only; /proc, which is no part of it, lends a place.

    The old root is let go of, so there is no way back to it.
    """
    root = "/proc"
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in view["read_only"]:
        target = root + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            _empty_file(target)
        mount(path, target, flags=MS_BIND | MS_REC)
        make_read_only(target)
    for device in view["devices"]:
        _empty_file(root + device)
        mount(device, root + device, flags=MS_BIND)
    for path, points_to in view["links"]:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(points_to, root + path)
    os.makedirs(root + view["tmp"], exist_ok=True)
    os.chdir(root)
    syscall("pivot_root", b".", b".")
    syscall("umount2", b".", MNT_DETACH)
    os.chdir("/")


def _empty_file(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _wait(inner: int) -> NoReturn:
    """Hold on to nothing but the process inside, and end with it."""
    try:
        die_with_parent(signal.SIGKILL)
        os.closerange(0, 2)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)
    finally:
        sys.stderr.flush()
        os._exit(1)
