"""Sessions are on disk before anybody is told of them, whatever ends the process, and never with a secret."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentrl.monitoring import genai, session_log
from agentrl.monitoring.redaction import DROPPED
from agentrl.monitoring.session_log import ReadSessions, SessionLog, forget, read_sessions, repair
from agentrl.monitoring.session_record import SessionRecord, session_record
from tests.monitoring.episodes import CONTEXT, answered

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now.timestamp()


def record(number: int, **fields: Any) -> dict[str, Any]:
    return {"schema_version": 1, "session_id": f"s{number}", "ended_at": NOON.isoformat(), **fields}


def ids(folder: Path, **options: Any) -> list[str]:
    return [each["session_id"] for each in read_sessions(folder, **options)]


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = session_record(answered(), CONTEXT, ended_at=NOON.timestamp())
    log = SessionLog(tmp_path)
    log.append(written)
    (read,) = read_sessions(tmp_path)
    assert read == json.loads(json.dumps(written.to_record()))
    assert read["schema_version"] == 1


def test_a_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from agentrl.monitoring.session_log import SessionLog
log = SessionLog(Path(sys.argv[1]))
log.append({"session_id": "kept"})
os.write(log._descriptor, b'{"schema_version": 1, "session_id": "torn')  # the next one, half-way
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    told = ReadSessions()
    assert ids(tmp_path, told=told) == ["kept"]
    assert (told.torn, told.damaged) == (1, [])
    again = SessionLog(tmp_path)  # takes the unfinished line out
    again.append(record(2))
    told = ReadSessions()
    assert sorted(ids(tmp_path, told=told)) == ["kept", "s2"]
    assert told.torn == 0
    (torn,) = tmp_path.glob("*.torn")
    assert b"torn" in torn.read_bytes()


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    log = SessionLog(tmp_path)
    log.append(record(1))
    assert log._descriptor is not None
    os.write(log._descriptor, b'{"schema_version": 1, "session')
    assert repair(tmp_path) == []
    os.write(log._descriptor, b'_id": "s2"}\n')
    assert ids(tmp_path) == ["s1", "s2"]


@pytest.mark.parametrize("n_bytes", [1, 70_000, 200_000], ids=["short", "over-a-block", "over-two"])
def test_a_torn_line_of_any_length_is_taken_out_whole(tmp_path: Path, n_bytes: int) -> None:
    log = SessionLog(tmp_path)
    log.append(record(1))
    log.close()
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * n_bytes)
    assert repair(tmp_path) == [path]
    assert path.read_bytes() == whole
    assert repair(tmp_path) == []


def test_threads_and_processes_share_a_folder(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from agentrl.monitoring.session_log import SessionLog
log = SessionLog(Path(sys.argv[1]))
for number in range(50):
    log.append({"session_id": f"{sys.argv[2]}-{number}"})
"""
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    log = SessionLog(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: log.append(record(number)), range(50)))
    assert [child.wait(60) for child in children] == [0, 0]
    expected = [f"s{n}" for n in range(50)] + [f"{name}-{n}" for name in "ab" for n in range(50)]
    assert sorted(ids(tmp_path)) == sorted(expected)
    assert len(list(tmp_path.glob("*.jsonl"))) == 3


def test_a_full_file_and_a_new_day_begin_a_new_file(tmp_path: Path) -> None:
    clock = Clock()
    log = SessionLog(tmp_path, max_file_bytes=300, clock=clock)
    for number in range(4):
        log.append(record(number, agent="x" * 60))
    clock.now += timedelta(days=1)
    log.append(record(4))
    names = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert [name[:10] for name in names] == ["2026-11-21", "2026-11-21", "2026-11-22"]
    assert all(path.stat().st_size <= 300 for path in tmp_path.glob("*.jsonl"))
    assert ids(tmp_path) == ["s0", "s1", "s2", "s3", "s4"]
    assert forget(tmp_path, before=clock.now) == 2
    assert ids(tmp_path) == ["s4"]


def test_a_disk_that_is_full_in_the_middle_of_a_record_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F32: what cannot be kept is told; the file goes on when there is room again."""
    log = SessionLog(tmp_path)
    log.append(record(1))
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if len(data) > 20:
            return write(descriptor, bytes(data[:20]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(session_log.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        log.append({**record(2), "agent": "y"})
    monkeypatch.setattr(session_log.os, "write", write)
    log.append(record(3))
    told = ReadSessions()
    assert ids(tmp_path, told=told) == ["s1", "s3"]
    assert (told.torn, told.damaged) == (0, [])


def test_t8_t9_what_is_written_is_redacted(tmp_path: Path) -> None:
    log = SessionLog(tmp_path)
    content = [{"role": "user", "content": "I am jane@example.com, my key is sk-abcdefghijklmnop123"}]
    log.append(record(1, content=content, headers={"Authorization": "Bearer planted-secret-1"}))
    (read,) = read_sessions(tmp_path)
    assert read["content"][0]["content"] == "I am [email], my key is [secret]"
    text = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(planted in text for planted in (b"jane", b"abcdefghij", b"planted"))


@pytest.mark.parametrize(
    "content",
    [object(), float("nan"), "x" * (5 * 1024 * 1024), "\ud800"],
    ids=["no-json", "nan", "too-long", "surrogate"],
)
def test_t9_content_that_cannot_be_kept_is_dropped_and_the_record_stays(tmp_path: Path, content: Any) -> None:
    log = SessionLog(tmp_path)
    log.append(record(1, content=content, arm="candidate"), record(2))
    first, second = read_sessions(tmp_path)
    assert (first["session_id"], first["arm"], first["content"]) == ("s1", "candidate", DROPPED)
    assert second["session_id"] == "s2"


def test_a_record_that_is_broken_beside_its_content_says_which_session_it_was(tmp_path: Path) -> None:
    log = SessionLog(tmp_path)
    log.append(record(1, cost_usd=float("inf"), arm="baseline"))
    (read,) = read_sessions(tmp_path)
    assert read == {**record(1), "arm": "baseline", "content": DROPPED}


def test_records_are_found_by_time_and_fields(tmp_path: Path) -> None:
    log = SessionLog(tmp_path, clock=Clock())
    for number in range(4):
        at = (NOON - timedelta(hours=number)).isoformat()
        log.append(record(number, ended_at=at, arm="candidate" if number % 2 else "baseline"))
    log.append(record(9, ended_at=None))
    assert ids(tmp_path, since=NOON - timedelta(hours=2), until=NOON) == ["s1", "s2"]
    assert ids(tmp_path, where={"arm": "candidate"}) == ["s1", "s3"]
    assert ids(tmp_path, keep=lambda each: each["session_id"] > "s2") == ["s3", "s9"]
    assert ids(tmp_path, since=NOON + timedelta(days=2)) == []


def test_a_line_that_is_no_record_is_named_and_passed_over(tmp_path: Path) -> None:
    log = SessionLog(tmp_path)
    log.append(record(1))
    log.close()
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(b"{broken\n" + path.read_bytes() + b"[1]\n\n")
    told = ReadSessions()
    assert ids(tmp_path, told=told) == ["s1"]
    assert told.damaged == [f"{path.name}:1", f"{path.name}:3"]


def test_files_that_are_links_are_not_repaired(tmp_path: Path) -> None:
    """T10: nothing outside of the folder is touched."""
    outside = tmp_path / "outside.txt"
    outside.write_text("no end of line")
    folder = tmp_path / "sessions"
    folder.mkdir()
    (folder / "2026-11-21-x.jsonl").symlink_to(outside)
    assert repair(folder) == []
    assert outside.read_text() == "no end of line"


def test_the_page_on_observability_names_every_field_and_its_attributes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
    table = page.partition("## Fields")[2].partition("## ")[0]
    rows = {row.split("|")[1]: row.split("|")[3] for row in table.splitlines() if row.startswith("| `")}
    shown = {name: names for fields, names in rows.items() for name in re.findall(r"`(\w+)`", fields)}
    assert sorted(shown) == sorted(each.name for each in dataclasses.fields(SessionRecord))
    for field, names in genai.SESSION.items():
        assert [name for name in names if f"`{name}`" not in shown[field]] == []
