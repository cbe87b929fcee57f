"""Linux calls that Python 3.11 has no functions for, through ctypes; x86_64 and aarch64."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform

MACHINE = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), -1)
"""Column of `SYSCALLS`; -1 where the numbers are not known."""
AUDIT_ARCH = (0xC000003E, 0xC00000B7)
SYSCALLS: dict[str, tuple[int, int]] = {
    name: (int(x86_64), int(aarch64))
    for name, x86_64, aarch64 in (
        line.split()
        for line in """
        fork 57 -1|vfork 58 -1|execve 59 221|execveat 322 281|clone 56 220|clone3 435 435|kill 62 129|tkill 200 130
        tgkill 234 131|socket 41 198|socketpair 53 199|bind 49 200|connect 42 203|listen 50 201|accept 43 202
        accept4 288 242|fcntl 72 25|ioctl 16 29|prctl 157 167|prlimit64 302 261
        setpgid 109 154|setsid 112 157|ptrace 101 117|process_vm_readv 310 270|process_vm_writev 311 271
        process_madvise 440 440|process_mrelease 448 448|kcmp 312 272|pidfd_open 434 434|pidfd_getfd 438 438
        pidfd_send_signal 424 424|rt_sigqueueinfo 129 138|rt_tgsigqueueinfo 297 240|mount 165 40|umount2 166 39
        pivot_root 155 41|chroot 161 51|move_mount 429 429|open_tree 428 428|open_tree_attr 467 467|fsopen 430 430
        fsconfig 431 431|fsmount 432 432|fspick 433 433|mount_setattr 442 442|unshare 272 97|setns 308 268
        keyctl 250 219|add_key 248 217|request_key 249 218|bpf 321 280|perf_event_open 298 241|userfaultfd 323 282
        io_uring_setup 425 425|io_uring_enter 426 426|io_uring_register 427 427|fanotify_init 300 262
        name_to_handle_at 303 264|open_by_handle_at 304 265|shmget 29 194|shmat 30 196|shmctl 31 195|shmdt 67 197
        semget 64 190|semop 65 193|semtimedop 220 192|semctl 66 191|msgget 68 186|msgsnd 69 189|msgrcv 70 188
        msgctl 71 187|mq_open 240 180|mq_unlink 241 181|mq_timedsend 242 182|mq_timedreceive 243 183
        mq_notify 244 184|mq_getsetattr 245 185|memfd_create 319 279|memfd_secret 447 447|setpriority 141 140
        ioprio_set 251 30|sched_setaffinity 203 122|sched_setscheduler 144 119|sched_setparam 142 118
        sched_setattr 314 274|migrate_pages 256 238|move_pages 279 239|mbind 237 235|set_mempolicy 238 237
        set_mempolicy_home_node 450 450|init_module 175 105|finit_module 313 273|delete_module 176 106
        kexec_load 246 104|kexec_file_load 320 294|reboot 169 142|swapon 167 224|swapoff 168 225|acct 163 89
        quotactl 179 60|quotactl_fd 443 443|settimeofday 164 170|clock_settime 227 112|adjtimex 159 171
        clock_adjtime 305 266|sethostname 170 161|setdomainname 171 162|iopl 172 -1|ioperm 173 -1|modify_ldt 154 -1
        personality 135 92|vhangup 153 58|syslog 103 116|uselib 134 -1|ustat 136 -1|sysfs 139 -1
        lookup_dcookie 212 18|nfsservctl 180 42|seccomp 317 277|mknod 133 -1|mknodat 259 33|capset 126 91
        chmod 90 -1|fchmodat 268 53|fchmodat2 452 452|chown 92 -1|lchown 94 -1|fchownat 260 54|setxattr 188 5
        lsetxattr 189 6|removexattr 197 14|lremovexattr 198 15|setxattrat 463 463|removexattrat 466 466
        file_setattr 469 469|utime 132 -1|utimes 235 -1|futimesat 261 -1|utimensat 280 88|truncate 76 45
        fchmod 91 52|fchown 93 55|fsetxattr 190 7|fremovexattr 199 16|fallocate 285 47|inotify_add_watch 254 27
        io_setup 206 0|setrlimit 160 164|statmount 457 457|listmount 458 458|landlock_create_ruleset 444 444
        landlock_add_rule 445 445|landlock_restrict_self 446 446
        """.replace("\n", "|").split("|")
        if line.strip()
    )
}
"""Name to its number on x86_64 and on aarch64; -1 where it does not exist."""

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_THREAD = 0x10000000, 0x20000000, 0x40000000, 0x00010000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_READ_ONLY = 0x1 | MS_NOSUID
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 1, 24, 38, 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, *arguments: object) -> int:
    """A system call by name; ints, bytes and ctypes objects as arguments.

    Raises:
        OSError: the kernel refused it, or it is not known on this machine.
    """
    number = SYSCALLS[name][MACHINE] if MACHINE >= 0 else -1
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *passed), name)


def prctl(option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(option, *padded), f"prctl {option}")


def unshare(flags: int) -> None:
    syscall("unshare", flags)


def enter(namespace_fd: int, flags: int) -> None:
    syscall("setns", namespace_fd, flags)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    syscall("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode() or None)


def make_read_only(target: str) -> None:
    """A mount and all below it, whatever flags they have already (Linux 5.12)."""

    class MountAttributes(ctypes.Structure):
        _fields_ = (
            ("set", ctypes.c_uint64),
            ("clear", ctypes.c_uint64),
            ("propagation", ctypes.c_uint64),
            ("userns", ctypes.c_uint64),
        )

    attributes = MountAttributes(MOUNT_READ_ONLY, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    syscall("mount_setattr", AT_FDCWD, target.encode(), AT_RECURSIVE, ctypes.byref(attributes), size)


def die_with_parent(signal_number: int) -> None:
    """Be killed when the thread ends that started this process."""
    prctl(PR_SET_PDEATHSIG, signal_number)


def bound_capabilities() -> None:
    """No program that is started later may gain any; what this process has, it keeps."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # beyond the last one, or not allowed, where no_new_privs closes the same door
    with contextlib.suppress(OSError):  # before Linux 4.3 there are none
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def drop_capabilities() -> None:
    """Give up every capability for good."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    syscall("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
