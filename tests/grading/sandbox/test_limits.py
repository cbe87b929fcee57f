"""Every resource has its end, and the worker, its neighbours and the trainer are there afterwards (t18, f16)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrl.grading.sandbox import Level, Limits
from agentrl.grading.sandbox.inside import folders
from tests.grading.sandbox.attempts import Sandbox, levels, skip_unless_it_works

FINE = "return 0.75"


@pytest.fixture(scope="module", params=levels(with_unisolated=True))
def hasty(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox with little time, at every level, the weakest included."""
    skip_unless_it_works(request.param)
    it = Sandbox(request.param, Limits(seconds=0.2))
    yield it
    it.close()


@pytest.mark.parametrize("code", ["import time; time.sleep(1e6)", "while True: pass"])
def test_the_time_limit_ends_a_grade(code: str, hasty: Sandbox) -> None:
    worker = hasty.worker
    outcome = hasty(code)
    assert outcome.details == "stopped at the time limit of 0.2 seconds"
    assert not outcome.is_graders_fault
    assert hasty.worker is worker  # still warm


@pytest.mark.parametrize(
    "code",
    [
        "return len(bytearray(1 << 40))",
        "x = []\nwhile True: x.append(bytearray(1 << 24))",
        "import mmap; mmap.mmap(-1, 1 << 40)",
        "return len(str(10 ** 8) * 10 ** 9)",
    ],
)
def test_memory_has_an_end(code: str, sandbox: Sandbox) -> None:
    outcome = sandbox(code)
    assert outcome.score is None
    assert "emory" in outcome.details, outcome
    assert sandbox(FINE).score == 0.75


def test_ten_gigabytes_of_output_go_nowhere(sandbox: Sandbox) -> None:
    code = """
        import os
        block = bytes(1 << 24)
        for _ in range(320):
            os.write(1, block)
            os.write(2, block)
        print("x" * 1_000_000)
        return 0.5"""
    assert sandbox(code).score == 0.5


def test_a_million_open_files_are_too_many(sandbox: Sandbox) -> None:
    assert "Too many open files" in sandbox("files = [open('/dev/null') for _ in range(1_000_000)]").details
    assert "Too many open files" in sandbox("import os\nwhile True: os.pipe()").details
    assert sandbox(FINE).score == 0.75


def test_a_huge_file_is_cut_off(sandbox: Sandbox) -> None:
    code = "file = open('huge', 'wb')\nwhile True: file.write(bytes(1 << 20))"
    assert sandbox(code).details.startswith("OSError"), "no space left, or too large a file"
    assert sandbox(FINE).score == 0.75


def test_files_have_an_end_all_together(sandbox: Sandbox) -> None:
    code = """
        import time
        for number in range(40):
            with open(str(number), "wb") as file:
                file.write(bytes(1 << 20))
        time.sleep(20)"""
    outcome = sandbox(code)
    assert "No space left" in outcome.details or outcome.details == "stopped: more than 8 MB in files"


HIDDEN = {
    "without a name": "file = os.open('.', os.O_TMPFILE | os.O_RDWR); os.write(file, block)",
    "removed": "file = os.open(str(number), os.O_CREAT | os.O_RDWR); os.write(file, block); os.unlink(str(number))",
    "allocated": "file = os.open(str(number), os.O_CREAT | os.O_RDWR); os.posix_fallocate(file, 0, 1 << 20)",
    "beyond every path": """[(os.mkdir('x' * 200), os.chdir('x' * 200)) for _ in range(4)]
            open('file', 'wb').write(block)""",
    "while it answers": "open(str(number), 'wb').write(block); os.write(reply_fd, b' '); time.sleep(0.02)",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_files_that_hide_have_an_end_too(name: str, sandbox: Sandbox) -> None:
    code = f"""
        import os, sys, time
        frame = sys._getframe()
        while "reply_fd" not in frame.f_locals:
            frame = frame.f_back
        reply_fd, block = frame.f_locals["reply_fd"], bytes(1 << 20)
        for number in range(40):
            {HIDDEN[name]}
        for _ in range(200):
            os.write(reply_fd, b" ")
            time.sleep(0.1)"""
    worker = sandbox.worker
    outcome = sandbox(code)
    assert "No space left" in outcome.details or outcome.details == "stopped: more than 8 MB in files", outcome
    assert sandbox(FINE).score == 0.75
    assert sandbox.worker is worker


def test_a_folder_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    """Folders deeper than Python's recursion and every path, closed ones, and links, which are not followed."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for each in (outside, folder, folder / "closed", folder / "closed" / "inner"):
        each.mkdir()
    (outside / "file").write_text("stays")
    (folder / "link").symlink_to(outside)
    (folder / "closed" / "inner" / "link").symlink_to(outside)
    (folder / "closed").chmod(0)
    at = os.open(folder, os.O_RDONLY)
    for _ in range(1010):
        os.mkdir("deep", dir_fd=at)
        inner = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    folders.remove(str(folder))
    assert not folder.exists()
    assert (outside / "file").read_text() == "stays"
    assert outside.stat().st_mode & 0o777 == 0o755


def test_a_million_files_are_too_many(sandbox: Sandbox) -> None:
    if sandbox.level is Level.LANDLOCK:
        pytest.skip("they are on the machine's disk, where making them takes long; see the next test")
    assert "No space left" in sandbox("for number in range(1_000_000): open(str(number), 'w').close()").details
    assert sandbox(FINE).score == 0.75


def test_files_are_counted_where_no_file_system_of_a_fixed_size_is_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    for number in range(3):
        (tmp_path / "folder" / str(number)).write_bytes(bytes(8192))
    assert 3 * 8192 <= folders.bytes_in(str(tmp_path)) < 10 * 8192
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    assert folders.bytes_in(str(tmp_path)) > 1 << 60


def test_a_fork_bomb_does_not_go_off(sandbox: Sandbox) -> None:
    code = "import os\nn = 0\nfor _ in range(10_000):\n    try: os.fork()\n    except OSError: n += 1\nreturn n"
    assert sandbox(code).score == 10_000


def test_threads_have_an_end(sandbox: Sandbox) -> None:
    number = 20_000 if sandbox.level is not Level.LANDLOCK else 100  # where they are counted, not refused
    code = f"""
        import threading
        threading.stack_size(1 << 16)
        stay = threading.Event()
        for number in range({number}):
            threading.Thread(target=stay.wait, daemon=True).start()
        stay.wait()"""
    details = sandbox(code).details
    assert "can't start new thread" in details or details == "stopped: more than 64 threads"
    assert sandbox(FINE).score == 0.75


def test_a_crash_ends_the_grade_alone(sandbox: Sandbox) -> None:
    worker = sandbox.worker
    assert sandbox("import ctypes; ctypes.string_at(0)").details == "killed by SIGSEGV"
    assert sandbox("return attempt()").details.startswith("RecursionError")
    assert sandbox(FINE).score == 0.75
    assert sandbox.worker is worker


def test_the_limits_of_a_grade_cannot_be_raised(sandbox: Sandbox) -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)); return 1"
    assert sandbox(code).details.startswith(("ValueError", "PermissionError"))


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM"])
def test_a_grade_that_ends_itself_has_no_score(signal: str, sandbox: Sandbox) -> None:
    """Process 1 of its own namespace is not even ended by its own signals; it goes on to have no result."""
    outcome = sandbox(f"import os, signal; os.kill(os.getpid(), signal.{signal}); raise LookupError('still here')")
    assert outcome.score is None
    assert outcome.details.startswith((f"killed by {signal}", "LookupError: still here")), outcome
    assert sandbox(FINE).score == 0.75
