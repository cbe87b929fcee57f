"""What untrusted code tries, and what stops it, at every level that works on this machine (t4)."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrl.grading.sandbox import Level
from agentrl.grading.sandbox.inside.kernel import MACHINE, SYSCALLS
from tests.grading.sandbox.attempts import Sandbox

ROOT = Path(__file__).parents[3]
STOPPED = ("PermissionError", "OSError", "FileNotFoundError", "gaierror", "BlockingIOError", "ProcessLookupError")

PLANTED = "a secret that no grader may read"

HARMLESS = {
    "a TCP socket": "import socket; socket.socket(); return 1.0",
    "a UDP socket": "import socket; socket.socket(type=socket.SOCK_DGRAM); return 1.0",
    "a Unix socket": "import socket; socket.socket(socket.AF_UNIX); return 1.0",
    "an abstract Unix socket": "import socket; socket.socket(socket.AF_UNIX).bind(chr(0) + 'agentrl-test'); return 1.0",
    "a netlink socket": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); return 1.0",
    "a pair of datagram sockets": "import socket; socket.socketpair(type=socket.SOCK_DGRAM); return 1.0",
    "a name server": "import socket; socket.getaddrinfo('localhost', 80); return 1.0",
    "a socket of a system call": "return call(item['socket'], 2, 1, 0)",
    "a fork": "import os\nif os.fork() == 0: os._exit(0)\nreturn 1.0",
    "a vfork": "import os; os.posix_spawn('/bin/true', ['true'], {}); return 1.0",
    "a program": "import subprocess; subprocess.run(['/bin/true'], check=True); return 1.0",
    "a process of multiprocessing": """
        import multiprocessing as mp
        process = mp.get_context("fork").Process(target=int)
        process.start()
        return 1.0""",
    "a file of the trainer": "return float(len(open(item['planted']).read()))",
    "the planted folder": "import os; return float(len(os.listdir(item['folder'])))",
    "the project": "return float(len(open(item['project'] + '/pyproject.toml').read()))",
    "the accounts": "return float(len(open('/etc/passwd').read()))",
    "a file beside its own": "open(item['folder'] + '/written', 'w').write('x'); return 1.0",
    "a file's permissions": "import os; os.chmod(item['planted'], 0o666); return 1.0",
    "a file's owner": "import os; os.chown(item['planted'], os.getuid(), os.getgid()); return 1.0",
    "a file's times": "import os; os.utime(item['planted'], (0, 0)); return 1.0",
    "a file's length": "import os; os.truncate(item['planted'], 5); return 1.0",
    "a file's name": "import os; os.rename(item['planted'], item['planted'] + '-renamed'); return 1.0",
    "a file itself": "import os; os.unlink(item['planted']); return 1.0",
    "a link to it": "import os; os.link(item['planted'], 'mine'); return float(len(open('mine').read()))",
    "a way round": "import os; os.symlink(item['planted'], 'mine'); return float(len(open('mine').read()))",
    "shared memory of a system call": "return call(item['shmget'], 0, 4096, 0o1600)",
    "a message queue": "return call(item['msgget'], 0, 0o1600)",
    "a file in memory": "import os; os.memfd_create('x'); return 1.0",
    "the trainer's end": "import os; os.kill(item['trainer'], 0); return 1.0",
    "everyone's end": "import os, signal; os.kill(-1, 0); return 1.0",
    "the trainer's limits": "import os, resource; resource.prlimit(item['trainer'], resource.RLIMIT_CORE); return 1.0",
    "a session of its own": "return call(item['setsid'])",
}
"""Attempts that an unprotected process succeeds in, which a test shows."""
PRIVILEGED = {
    "root": "import os; os.setuid(0); os.setgid(0); open('/etc/shadow').read(); return 1.0",
    "the passwords": "return float(len(open('/etc/shadow').read()))",
    "the home directory": "import os; return float(bool(os.listdir(item['home'])) + 1)",
    "the standard library": "import json; open(json.__file__, 'a').write('#'); return 1.0",
    "site-packages": "import sys; open(sys.path[-1] + '/planted.py', 'w'); return 1.0",
    "shared memory": "open('/dev/shm/agentrl-test', 'w').write('x'); return 1.0",
    "the system's folders": "open('/usr/lib/agentrl-test', 'w').write('x'); return 1.0",
    "a change of root": "import os; os.chroot('.'); return 1.0",
    "a device": "import os, stat; os.mknod('device', 0o600 | stat.S_IFCHR, os.makedev(1, 1)); return 1.0",
    "the memory of the machine": "return float(len(open('/dev/mem', 'rb').read(1)))",
    "the parent's memory": "import os; return float(len(open(f'/proc/{os.getppid()}/mem', 'rb').read(1)))",
    "the settings of the kernel": "open('/proc/sys/kernel/core_pattern', 'w').write('x'); return 1.0",
}
READ_ONLY = {
    "its permissions": "os.fchmod(fd, os.fstat(fd).st_mode & 0o7777)",
    "its owner": "os.fchown(fd, os.fstat(fd).st_uid, os.fstat(fd).st_gid)",
    "its further attributes": "os.setxattr(fd, 'user.agentrl-test', b'x')",
    "its flags": "fcntl.ioctl(fd, 0x40086602, fcntl.ioctl(fd, 0x80086601, bytes(8)))",
    "its readers, held up": "fcntl.fcntl(fd, 1024, fcntl.F_RDLCK)",
    "a hint for the next grade": "fcntl.fcntl(fd, 1036, struct.pack('Q', 0))",
    "who else opens it": "call(item['inotify_add_watch'], inotify, json.__file__.encode(), 0x20)",
    "news of its folder": "fcntl.fcntl(os.open(os.path.dirname(json.__file__), os.O_RDONLY), 1026, 1)",
    "the times of a device": "os.utime('/dev/null')",
    "whom a socket signals": "fcntl.ioctl(socket.socketpair()[0], 0x8901, struct.pack('i', item['trainer']))",
    "the machine's asynchronous requests": "call(item['io_setup'], 100, (ctypes.c_ulong * 1)())",
    "who gets its core dump": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
}
"""What might be changed of a file that may only be read, and of what the whole machine shares."""
REFUSED_CALLS = """ptrace mount umount2 pivot_root unshare setns keyctl add_key request_key bpf perf_event_open
userfaultfd io_uring_setup process_vm_readv pidfd_open semget mq_open personality fsopen open_tree kcmp seccomp
bind connect listen accept accept4 reboot init_module sched_setaffinity setpriority io_setup setrlimit statmount
listmount inotify_add_watch""".split()


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What an attempt aims at."""
    (tmp_path / "planted").write_text(PLANTED)
    monkeypatch.setenv("AGENTRL_PLANTED", "agentrl-planted-secret")
    calls = {name: numbers[MACHINE] for name, numbers in SYSCALLS.items()}
    paths = {"planted": str(tmp_path / "planted"), "folder": str(tmp_path), "project": str(ROOT)}
    return {**calls, **paths, "trainer": os.getpid(), "home": os.path.expanduser("~")}


@pytest.fixture(scope="module")
def outside() -> Iterator[Sandbox]:
    """No walls: the control."""
    it = Sandbox(Level.UNISOLATED)
    yield it
    it.close()


@pytest.mark.parametrize("name", [*HARMLESS, *PRIVILEGED])
def test_an_attempt_is_stopped(name: str, sandbox: Sandbox, surroundings: dict[str, object]) -> None:
    outcome = sandbox({**HARMLESS, **PRIVILEGED}[name], **surroundings)
    assert outcome.score is None, outcome
    assert outcome.details.startswith(STOPPED), outcome
    folder = Path(str(surroundings["folder"]))
    assert [path.name for path in folder.iterdir()] == ["planted"]
    assert (folder / "planted").read_text() == PLANTED
    assert (folder / "planted").stat().st_mtime > 1e9


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_may_be_read_cannot_be_changed(name: str, sandbox: Sandbox, surroundings: dict[str, object]) -> None:
    code = f"""
        import ctypes, fcntl, json, os, resource, socket, struct
        fd, inotify = os.open(json.__file__, os.O_RDONLY), ctypes.CDLL(None).inotify_init1(0)
        {READ_ONLY[name]}
        return 1.0"""
    outcome = sandbox(code, **surroundings)
    assert outcome.details.startswith((*STOPPED, "ValueError: not allowed to raise")), outcome


@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit calls are x86_64's")
def test_a_32_bit_call_ends_the_grade(sandbox: Sandbox) -> None:
    code = """
        import ctypes, mmap
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex("b814000000cd80c3"))  # getpid by int 0x80
        return float(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())"""
    assert sandbox(code).details == "killed by SIGSYS"


@pytest.mark.parametrize("name", HARMLESS)
def test_without_walls_the_same_attempt_succeeds(name: str, outside: Sandbox, surroundings: dict[str, object]) -> None:
    outcome = outside(HARMLESS[name], **surroundings)
    assert outcome.score is not None, outcome
    assert outcome.score > 0


def test_system_calls_are_refused(sandbox: Sandbox) -> None:
    """All in one grade: those that got through are named."""
    code = """
        import errno
        through = []
        for name, number in item["calls"].items():
            try:
                call(number, 0, 0, 0, 0, 0)
            except OSError as error:
                if error.errno == errno.EPERM:
                    continue
            through.append(name)
        raise LookupError(f"through: {through}")"""
    calls = {name: SYSCALLS[name][MACHINE] for name in REFUSED_CALLS}
    assert sandbox(code, calls=calls).details.startswith("LookupError: through: []")


def test_a_new_process_of_a_system_call_is_refused(sandbox: Sandbox) -> None:
    sigchld, new_user = 17, 0x10000000
    for flags in (sigchld, sigchld | new_user):
        outcome = sandbox(
            "return call(item['number'], item['flags'], 0, 0, 0, 0)", number=SYSCALLS["clone"][MACHINE], flags=flags
        )
        assert outcome.details.startswith("PermissionError: [Errno 1]"), outcome
    outcome = sandbox("return call(435, 0, 0)")
    assert "Function not implemented" in outcome.details


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 system calls are x86_64's")
def test_a_system_call_by_its_other_number_ends_the_grade(sandbox: Sandbox) -> None:
    assert sandbox("return call(0x40000000 | 41, 2, 1, 0)").details == "killed by SIGSYS"


def test_no_secret_of_the_trainer_is_to_be_found(sandbox: Sandbox, surroundings: dict[str, object]) -> None:
    """Neither its environment nor any process's, nor its command line."""
    code = """
        import glob, os
        seen = " ".join(f"{key}={value}" for key, value in os.environ.items())
        for path in [*glob.glob("/proc/*/environ"), *glob.glob("/proc/*/cmdline"), "/proc/self/environ"]:
            try:
                seen += open(path, errors="replace").read()
            except OSError:
                pass
        mine = set("HOME TMPDIR LANG LC_CTYPE PWD PYTHONHASHSEED OMP_NUM_THREADS OPENBLAS_NUM_THREADS".split())
        return float("agentrl-planted-secret" in seen or "pytest" in seen or not set(os.environ) <= mine)"""
    assert sandbox(code, **surroundings).score == 0.0


def test_a_grade_may_do_what_graders_do(sandbox: Sandbox) -> None:
    """Threads, an event loop, a temporary file, random numbers, packages: none of them is an escape."""
    code = """
        import asyncio, concurrent.futures, os, random, secrets, tempfile, numpy
        from zoneinfo import ZoneInfo
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(int, "1234")) == 10
        async def two():
            await asyncio.sleep(0)
            return 2
        assert asyncio.run(two()) == 2
        with tempfile.TemporaryDirectory() as folder:
            open(os.path.join(folder, "file"), "w").write("text")
        open("/dev/null", "w").write("gone")
        assert secrets.token_bytes(4) and random.random() < 1
        return numpy.mean([0.25, 0.75])"""
    assert sandbox(code).score == 0.5
