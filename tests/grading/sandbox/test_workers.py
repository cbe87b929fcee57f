"""Workers start, are replaced, and leave nobody behind."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from agentrl.errors import ConfigError
from agentrl.grading.sandbox import (
    Level,
    Limits,
    Outcome,
    Worker,
    WorkerError,
    WorkerPool,
    choose_level,
    levels,
    sandbox_level,
    view,
)
from agentrl.grading.sandbox.view import View
from tests.grading.sandbox.attempts import Sandbox, request, skip_unless_it_works
from tests.grading.sandbox.attempts import levels as all_levels

ROOT = Path(__file__).parents[3]
FINE = json.dumps([{}, {}]).encode()
SCORES = "def grade(sample, item): return 0.5"


def descendants(pid: int) -> list[int]:
    """A process and all below it, as the machine sees them."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += descendants(int(child))
    return found


def all_end(pids: list[int], seconds: float = 20.0) -> bool:
    """Whether every one of them has ended, or does in time."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([fd], [], [], seconds)[0]:
                return False
        finally:
            os.close(fd)
    return True


@pytest.fixture(params=all_levels(with_unisolated=True))
def level(request: pytest.FixtureRequest) -> Level:
    skip_unless_it_works(request.param)
    return Level(request.param)


def test_a_closed_worker_leaves_no_process(level: Level) -> None:
    worker = Worker(level, SCORES, Limits())
    processes = descendants(worker.pid)
    assert worker.grade(FINE).score == 0.5
    worker.close()
    assert all_end(processes)
    with pytest.raises(WorkerError):
        worker.grade(FINE)


def test_a_worker_does_not_outlive_a_killed_trainer(level: Level, tmp_path: Path) -> None:
    """Not even in the middle of a grade that would take for ever; nor do its folders."""
    script = f"""
        import threading
        from agentrl.grading.sandbox import Level, Limits, Worker
        code = "import os, time\\ndef grade(sample, item):\\n    time.sleep(1e6)"
        worker = Worker(Level("{level.value}"), code, Limits())
        print(worker.pid, flush=True)
        input()
        threading.Thread(target=worker.grade, args=(b"[{{}}, {{}}]",)).start()
        """
    trainer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert trainer.stdout is not None
    assert trainer.stdin is not None
    worker = int(trainer.stdout.readline())
    at_rest = descendants(worker)
    trainer.stdin.write(b"\n")
    trainer.stdin.flush()
    while len(processes := descendants(worker)) <= len(at_rest):
        os.sched_yield()
    trainer.kill()
    trainer.communicate()
    assert all_end(processes)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_was_killed_is_replaced(level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def run() -> list[Outcome]:
        pool = WorkerPool(level, SCORES, Limits(), n_workers=1)
        outcomes = [await pool.grade(lambda: FINE)]
        (first,) = pool.worker_pids
        os.kill(first, signal.SIGKILL)
        assert await asyncio.to_thread(all_end, descendants(first))
        outcomes.append(await pool.grade(lambda: FINE))
        assert pool.worker_pids != (first,)
        assert len(pool.worker_pids) == 1
        await pool.aclose()
        assert list(tmp_path.iterdir()) == []
        return outcomes

    assert [each.score for each in asyncio.run(run())] == [0.5, 0.5]


def test_a_worker_that_is_killed_under_way_gives_no_score(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    worker = Worker(level, "import time\ndef grade(sample, item): time.sleep(1e6)", Limits())
    timer = threading.Timer(0.2, worker.kill)
    timer.start()
    outcome = worker.grade(FINE)
    assert outcome.score is None
    assert outcome.details.startswith("the worker ended")
    assert not outcome.is_graders_fault
    worker.close()
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_prints_says_nothing_to_the_trainer(level: Level) -> None:
    worker = Worker(level, SCORES, Limits(), preload=["this"])
    assert worker.grade(FINE).score == 0.5
    worker.close()


def test_a_worker_ends_before_the_trainer_where_memory_runs_out(level: Level) -> None:
    worker = Worker(level, SCORES, Limits())
    grading = descendants(worker.pid)[-1]
    assert Path(f"/proc/{grading}/oom_score_adj").read_text() == "1000\n"
    worker.close()


def test_a_closed_pool_ends_what_runs_and_what_waits(level: Level) -> None:
    async def run() -> None:
        pool = WorkerPool(level, "import time\ndef grade(sample, item): time.sleep(1e6)", Limits(), n_workers=2)
        running = [asyncio.create_task(pool.grade(lambda: FINE)) for _ in range(5)]
        while len(pool.worker_pids) < 2:
            await asyncio.sleep(0.01)
        processes = [pid for worker in pool.worker_pids for pid in descendants(worker)]
        await pool.aclose()
        outcomes = await asyncio.gather(*running)
        assert [outcome.score for outcome in outcomes] == [None] * 5
        assert await asyncio.to_thread(all_end, processes)
        assert (await pool.grade(lambda: FINE)).details == "the grader has been closed"

    asyncio.run(run())


def test_a_forgotten_pool_ends_its_workers() -> None:
    async def run() -> list[int]:
        pool = WorkerPool(Level.UNISOLATED, SCORES, Limits(), n_workers=1)
        assert (await pool.grade(lambda: FINE)).score == 0.5
        return [pid for worker in pool.worker_pids for pid in descendants(worker)]

    assert all_end(asyncio.run(run()))


def test_neighbours_do_not_see_each_other(level: Level) -> None:
    """Two workers at once: the one looks for the other's process and file while both run (t19)."""
    if level is Level.UNISOLATED:
        pytest.skip("there are no walls")
    first, second = Sandbox(level), Sandbox(level)
    try:
        plant = "import time\nopen('planted', 'w').write('x')\ntime.sleep(0.5)\nreturn 0"
        look = """
            import os, time
            deadline, found = time.monotonic() + 0.2, 0
            mine = {os.path.basename(os.getcwd())}
            while time.monotonic() < deadline:
                for folder in ("/tmp", os.path.dirname(os.getcwd()), "/dev/shm", "/proc"):
                    if folder == "/":
                        continue
                    try:
                        found += len(set(os.listdir(folder)) - mine)
                    except OSError:
                        continue
            return found"""
        assert first.worker.is_alive
        assert second.worker.is_alive
        thread = threading.Thread(target=first, args=(plant,))
        thread.start()
        assert second(look).score == 0.0
        thread.join()
    finally:
        first.close()
        second.close()


def test_a_worker_says_why_it_does_not_start(level: Level) -> None:
    with pytest.raises(WorkerError, match="a worker could not start: SyntaxError"):
        Worker(level, "def grade(sample, item:", Limits())


def test_a_request_that_a_child_cannot_hold_is_no_score(level: Level) -> None:
    worker = Worker(level, SCORES, Limits(memory_mb=64))
    try:
        outcome = worker.grade(json.dumps([{"text": "x" * 30_000_000}, {}]).encode())
        assert outcome.score is None
        assert not outcome.is_graders_fault
    finally:
        worker.close()


def test_the_level_is_found_by_trying() -> None:
    working = [level for level in levels.ISOLATED if not levels.why_not(level)]
    assert sandbox_level() == (working[0] if working else Level.UNISOLATED)


def test_without_a_working_level_untrusted_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "why_not", lambda level: f"no {level.value} today")
    monkeypatch.setattr(levels, "sandbox_level", lambda: Level.UNISOLATED)
    with pytest.raises(ConfigError, match=r"landlock: no landlock today.*write `sandbox: unisolated`"):
        choose_level("auto")
    with pytest.raises(ConfigError, match="found 'namespaces', which does not work on this machine: no namespaces"):
        choose_level("namespaces")
    assert choose_level("unisolated") is Level.UNISOLATED


def test_a_level_whose_walls_do_not_hold_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe tries to get out: a worker without walls that claims to be one is found out."""
    built = levels.Worker
    monkeypatch.setattr(levels, "Worker", lambda _, *rest: built(Level.UNISOLATED, *rest))
    levels.why_not.cache_clear()
    try:
        assert "walls do not hold" in levels.why_not(Level.NAMESPACES)
    finally:
        levels.why_not.cache_clear()


def test_the_view_holds_no_home_and_no_project() -> None:
    view = View.of_this_interpreter()
    seen = [Path(path) for path in view.read_only]
    for hidden in (Path.home(), ROOT, ROOT / "src", Path("/etc"), Path("/"), Path("/tmp"), Path("/proc")):
        assert hidden not in seen
        assert not any(hidden.is_relative_to(path) for path in seen), hidden
    assert not any(Path(path).is_relative_to(ROOT / "src") for path in view.import_paths)


def test_a_request_may_be_longer_than_a_pipe(level: Level) -> None:
    worker = Sandbox(level)
    try:
        assert worker.worker.grade(request("return len(item['text'])", text="x" * 5_000_000)).score == 5_000_000
    finally:
        worker.close()


def test_where_namespaces_are_forbidden_landlock_is_the_level() -> None:
    """As in a container with the usual profile: unshare and mount are refused to this process and all below it."""
    skip_unless_it_works(Level.LANDLOCK)
    script = """
        import ctypes, struct
        from agentrl.grading.sandbox import Level, sandbox_level
        from agentrl.grading.sandbox.inside.kernel import MACHINE, SYSCALLS, prctl, syscall
        from agentrl.grading.sandbox.inside.syscall_filter import ALLOW, EQUALS, LOAD, NUMBER, RETURN, Filter, refuse
        from agentrl.grading.sandbox.levels import why_not
        code = [(LOAD, 0, 0, NUMBER)]
        for name in ("unshare", "mount", "setns"):
            code += [(EQUALS, 0, 1, SYSCALLS[name][MACHINE]), refuse()]
        code.append((RETURN, 0, 0, ALLOW))
        packed = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *each) for each in code))
        program = Filter(has_own_root=True)
        program.length, program.code = len(code), ctypes.addressof(packed)
        prctl(38, 1)
        syscall("seccomp", 1, 0, ctypes.byref(program))
        libc = ctypes.CDLL(None)
        libc.prctl(36, 1, 0, 0, 0)  # orphans become this process's own
        print(sandbox_level(), why_not(Level.NAMESPACES), why_not(Level.BUBBLEWRAP))
        import os
        children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
        states = [open(f"/proc/{child}/stat").read().rsplit(")", 1)[1].split()[0] for child in children]
        print("left behind:", [state for state in states if state != "Z"])
        """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("landlock "), told.stdout
    assert "unshare: Operation not permitted" in told.stdout
    assert "left behind: []" in told.stdout
    assert "bwrap is not installed" in told.stdout or "bwrap: " in told.stdout, told.stdout


@pytest.mark.parametrize("level", [level for level in Level if level is not Level.UNISOLATED])
def test_packages_below_the_folder_for_temporary_files_are_seen(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_it_works(level)
    tmp_path.chmod(0o755)
    (tmp_path / "only_here.py").write_text("score = 0.25")
    monkeypatch.setattr(view, "_site_packages", lambda: [str(tmp_path)])
    below = View.of_this_interpreter()
    if not str(tmp_path).startswith("/tmp/"):
        pytest.skip("pytest makes its folders elsewhere")
    assert (below.tmp, str(tmp_path) in below.import_paths) == ("/grade", True)
    source = """
import only_here, tempfile

def grade(sample, item):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("still written")
    return only_here.score
"""
    worker = Worker(level, source, Limits(seconds=20.0))
    try:
        assert worker.grade(FINE).score == 0.25
    finally:
        worker.close()
