"""`agentrl ui`: what is refused before anything is served, and that it starts and ends quietly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("duckdb", reason="the extra agentrl[ui] is not installed")

from typer.testing import CliRunner

from agentrl.cli.main import app
from tests.ui.made_runs import write_run


def refused(*arguments: str) -> str:
    """What is said on stderr."""
    result = CliRunner().invoke(app, ["ui", *arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "nope")) == (
        f"error: {tmp_path}/nope does not exist; give the directory that your runs lie in, such as runs"
    )
    (tmp_path / "file").touch()
    assert "is a file" in refused(str(tmp_path / "file"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "box.example"])
def test_other_machines_may_look_only_if_that_is_said(tmp_path: Path, host: str) -> None:
    said = refused(str(tmp_path), "--host", host)
    assert f"--host {host}: other machines could read every run" in said
    assert "--to-others" in said


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(str(tmp_path), "--port", str(port))
    assert f"--port {port}: cannot listen there" in said
    assert "--port 0 takes a free one" in said


@pytest.mark.slow
def test_it_says_where_answers_and_ends_without_a_word(tmp_path: Path) -> None:
    write_run(tmp_path / "first")
    command = [sys.executable, "-m", "agentrl", "ui", str(tmp_path), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as process:  # type: ignore[call-overload]
        line = process.stdout.readline()
        port = int(line.split(" (")[0].rpartition(":")[2])
        with urlopen(f"http://127.0.0.1:{port}/", timeout=20) as reply:
            assert b"first" in reply.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_no_page_loads_torch() -> None:
    code = "import sys; import agentrl.ui.app; assert not {'torch', 'transformers', 'trl'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
