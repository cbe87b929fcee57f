"""The filter's decisions, by an interpreter of its own: so those for the other machine are looked at as well."""

from __future__ import annotations

import errno

import pytest

from agentrl.grading.sandbox.inside import syscall_filter
from agentrl.grading.sandbox.inside.kernel import AUDIT_ARCH, CLONE_NEWUSER, CLONE_THREAD, SYSCALLS
from agentrl.grading.sandbox.inside.syscall_filter import ALLOW, KILL, MYSELF, REFUSE

X86_64, AARCH64 = 0, 1
EVERYDAY = {
    X86_64: {"read": 0, "write": 1, "openat": 257, "mmap": 9, "futex": 202, "exit_group": 231, "set_robust_list": 273},
    AARCH64: {"read": 63, "write": 64, "openat": 56, "mmap": 222, "futex": 98, "exit_group": 94, "set_robust_list": 99},
}
REFUSED = REFUSE | errno.EPERM


def verdict(machine: int, number: int, *arguments: int, arch: int | None = None, has_own_root: bool = True) -> int:
    """What the program answers to a call, as the kernel would run it."""
    memory = {0: number, 4: AUDIT_ARCH[machine] if arch is None else arch}
    memory |= {16 + 8 * place: value & 0xFFFFFFFF for place, value in enumerate([*arguments, 0, 0, 0, 0, 0, 0][:6])}
    code = syscall_filter.program(has_own_root=has_own_root)
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == syscall_filter.LOAD:
            accumulator = memory[value]
        elif operation == syscall_filter.RETURN:
            return value
        elif operation == syscall_filter.AND:
            accumulator &= value
        else:
            holds = {
                syscall_filter.EQUALS: accumulator == value,
                syscall_filter.AT_LEAST: accumulator >= value,
                syscall_filter.ANY_BIT: bool(accumulator & value),
            }[operation]
            at += if_true if holds else if_false


@pytest.fixture(params=[X86_64, AARCH64], ids=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(syscall_filter, "MACHINE", request.param)
    return int(request.param)


def test_everyday_calls_are_allowed(machine: int) -> None:
    assert {verdict(machine, number) for number in EVERYDAY[machine].values()} == {ALLOW}


def test_what_reaches_others_is_refused(machine: int) -> None:
    calls = [name for name in SYSCALLS if name not in (*syscall_filter.SPECIAL, *syscall_filter.BY_PATH)]
    numbers = {name: SYSCALLS[name][machine] for name in calls if SYSCALLS[name][machine] >= 0}
    assert len(numbers) > 80
    assert {name for name, number in numbers.items() if verdict(machine, number) != REFUSED} == set()


def test_no_number_stands_for_two_calls(machine: int) -> None:
    numbers = [number[machine] for number in SYSCALLS.values() if number[machine] >= 0]
    assert len(numbers) == len(set(numbers))
    assert not set(numbers) & set(EVERYDAY[machine].values())


def test_a_file_may_be_changed_by_its_path_only_in_a_root_of_ones_own(machine: int) -> None:
    for name in ("truncate", "fchmod", "fchown", "fsetxattr", "fremovexattr"):
        number = SYSCALLS[name][machine]
        assert verdict(machine, number) == ALLOW
        assert verdict(machine, number, has_own_root=False) == REFUSED
    assert verdict(machine, SYSCALLS["fallocate"][machine]) == ALLOW
    assert verdict(machine, SYSCALLS["fallocate"][machine], has_own_root=False) == REFUSE | errno.EOPNOTSUPP


def test_threads_may_be_made_and_processes_not(machine: int) -> None:
    clone = SYSCALLS["clone"][machine]
    assert verdict(machine, clone, 0x3D0F00 | CLONE_THREAD) == ALLOW
    assert verdict(machine, clone, 17) == REFUSED
    assert verdict(machine, clone, CLONE_THREAD | CLONE_NEWUSER) == REFUSED
    assert verdict(machine, SYSCALLS["clone3"][machine]) == REFUSE | errno.ENOSYS


def test_a_process_may_signal_itself_alone(machine: int) -> None:
    for name in ("kill", "tgkill"):
        assert verdict(machine, SYSCALLS[name][machine], MYSELF) == ALLOW
        for other in (0, 1, 2**32 - 1):
            assert verdict(machine, SYSCALLS[name][machine], other) == REFUSED


@pytest.mark.parametrize(
    ("name", "refused", "allowed"),
    [
        ("socketpair", (2, 1, 0), (1, 1, 0)),
        ("socketpair", (1, 2, 0), (1, 0x80801, 0)),
        ("prlimit64", (1, 7), (0, 7)),
        ("fcntl", (3, 8, 1), (3, 2, 1)),
        ("ioctl", (0, 0x5412), (0, 0x5401)),  # TIOCSTI
        ("ioctl", (0, 0x40086602), (0, 0x5421)),  # a file's attributes
        ("ioctl", (0, 0x8901), (0, 0x541B)),  # whom a socket signals
        ("fcntl", (3, 1024, 1), (3, 6)),  # a lease
        ("fcntl", (3, 1036), (3, 1030)),  # a hint that stays in the file
        ("fcntl", (3, 1026), (3, 4)),  # news of a folder
        ("prlimit64", (0, 4), (0, 9)),  # core dumps
        ("prctl", (1, 0), (15, 0)),
        ("prctl", (4, 0), (15, 0)),  # whether others may look at it
    ],
)
def test_arguments_are_looked_at(machine: int, name: str, refused: tuple[int, ...], allowed: tuple[int, ...]) -> None:
    number = SYSCALLS[name][machine]
    assert verdict(machine, number, *refused) == REFUSED
    assert verdict(machine, number, *allowed) == ALLOW


def test_a_call_of_another_architecture_ends_the_grade(machine: int) -> None:
    assert verdict(machine, 1, arch=AUDIT_ARCH[1 - machine]) == KILL
    assert verdict(machine, 1, arch=0x40000003) == KILL  # 32-bit calls of x86


def test_x32_calls_end_the_grade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall_filter, "MACHINE", X86_64)
    assert verdict(X86_64, 0x40000000 | 41) == KILL
