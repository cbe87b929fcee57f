"""Served processes: ready or named with their last words, and gone at the end, however it comes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentrl import process_group
from agentrl.config import ServeConfig
from agentrl.errors import ConfigError
from agentrl.tools import serving

READY = "import os, time; print('pid', os.getpid()); print('listening on http://127.0.0.1:4711/', flush=True); "
FOREVER = "time.sleep(600)"


def server(code: str, **fields: Any) -> ServeConfig:
    return ServeConfig(command=("{python}", "-c", code), **fields)


def refusal(config: ServeConfig) -> str:
    """Why a server cannot be served."""
    with pytest.raises(ConfigError) as caught, serving([config], {}):
        raise AssertionError("it is never ready")
    return str(caught.value)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # adopted by an init that does not reap


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def pid_in(log: Path) -> int:
    return int(log.read_text().split()[1])


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@needs_proc
def test_servers_are_ready_inside_and_gone_outside(tmp_path: Path) -> None:
    with serving([server(READY + FOREVER)] * 2, {}, log_dir=tmp_path / "run") as urls:
        assert urls == ["http://127.0.0.1:4711", "http://127.0.0.1:4711"]
        pids = [pid_in(tmp_path / "run" / f"serve-{i}.log") for i in range(2)]
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, pids))


@needs_proc
def test_stubborn_servers_end_with_an_exception_and_their_children_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "STOP_SECONDS", 0.2)
    code = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pid", child.pid)
print("listening on http://127.0.0.1:1", flush=True)
child.wait(); signal.pause()
"""

    def fail_inside() -> None:
        with serving([server(code)], {}, log_dir=tmp_path):
            assert is_alive(pid_in(tmp_path / "serve-0.log"))
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert wait_until_gone(pid_in(tmp_path / "serve-0.log"))


@needs_proc
def test_no_server_outlives_a_killed_run(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from agentrl.config import ServeConfig
from agentrl.tools import serve, serving
with serving([ServeConfig(command=("{{python}}", "-c", {READY + FOREVER!r}))], {{}}, log_dir=Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert run.returncode == -signal.SIGKILL
    assert wait_until_gone(pid_in(tmp_path / "serve-0.log"))


def test_a_server_that_ends_is_named_with_its_last_words() -> None:
    code = "import sys; print('no such corpus', file=sys.stderr); sys.exit(3)"
    assert re.search(r"(?s)-c.*exit code 3.*listening on.*no such corpus", refusal(server(code)))


def test_a_server_that_is_not_ready_in_time_is_stopped() -> None:
    slow = server("import time; print('loading', flush=True); time.sleep(600)", ready_timeout_seconds=0.3)
    assert re.search(r"(?s)not ready within 0\.3 s.*loading", refusal(slow))


def test_a_program_that_does_not_exist_is_named() -> None:
    message = refusal(ServeConfig(command=("no-such-program", "--port", "0")))
    assert "cannot start `no-such-program --port 0` (No such file" in message


def test_placeholders_are_filled_and_unknown_ones_refused(tmp_path: Path) -> None:
    command = (
        "{python}",
        "-c",
        "import sys; print(sys.argv[1:])\n" + READY + FOREVER,
        "--data={data.path}",
        "{}",
        '{"a": 1}',
    )
    with serving([ServeConfig(command=command)], {"data.path": "a b"}, log_dir=tmp_path):
        assert (tmp_path / "serve-0.log").read_text().startswith("""['--data=a b', '{}', '{"a": 1}']""")
    assert "needs {data.path}, which has no value; known here: {python}" in refusal(ServeConfig(command=command))


def test_a_random_token_is_shared_with_the_server_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINQA_TOKEN", "mine")
    show = "import os; print(os.environ['FINQA_TOKEN'], os.environ['MODE'])\n" + READY + FOREVER
    config = server(show, env={"FINQA_TOKEN": "${random}", "MODE": "test"})
    with serving([config, config], {}, log_dir=tmp_path):
        token = os.environ["FINQA_TOKEN"]
        assert token != "mine"
        assert len(token) >= 32
        for log in ("serve-0.log", "serve-1.log"):
            assert (tmp_path / log).read_text().startswith(f"{token} test\n")
        assert "MODE" not in os.environ
    assert os.environ["FINQA_TOKEN"] == "mine"


def test_a_token_is_struck_out_of_the_last_words() -> None:
    code = "import os, sys; print('bad token', os.environ['TOKEN_X']); sys.exit(1)"
    assert "bad token [secret]" in refusal(server(code, env={"TOKEN_X": "${random}"}))
    assert "TOKEN_X" not in os.environ


def test_much_output_blocks_no_server(tmp_path: Path) -> None:
    flood = "import sys; sys.stdout.write('x' * 5_000_000 + '\\n'); sys.stderr.write('y' * 5_000_000 + '\\n'); "
    with serving([server(flood + READY + FOREVER)], {}, log_dir=tmp_path) as urls:
        assert urls == ["http://127.0.0.1:4711"]
