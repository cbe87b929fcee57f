"""The chain of the audit log: what was done to it is found, and what cannot be written changes nothing."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle.anchors import (
    anchor_of,
    check_anchor,
    keep_anchor,
    parse_anchor,
    read_anchors,
    read_tag,
    tag_anchor,
)
from agentrl.release.lifecycle.audit_log import ChainError, check_writable, hash_of, locked_log, read_entries
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import list_releases, read_release, read_workflow
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.routing import read_routing
from agentrl.release.store.tables import incidents, metadata, transitions
from tests.lifecycle_story import NOW, brought_to, rolled_back, started, step

S = ReleaseState


def written(path: Path, count: int = 6) -> list[str]:
    """A log with some lines."""
    with locked_log(path) as log:
        for number in range(count):
            log.append({"kind": "note", "text": f"é {number}", "value": number / 7})
    return path.read_text("utf-8").splitlines()


def test_a_whole_log_reads_as_it_was_written(tmp_path: Path) -> None:
    written(tmp_path / "audit.jsonl")
    entries = read_entries(tmp_path / "audit.jsonl")
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[3].body["value"] == 3 / 7


@given(line=st.integers(0, 5), data=st.data())
def test_one_changed_character_names_its_line(
    tmp_path_factory: pytest.TempPathFactory, line: int, data: st.DataObject
) -> None:
    """T16: any character of any line, but for JSON that means the same."""
    path = tmp_path_factory.mktemp("log") / "audit.jsonl"
    lines = written(path)
    place = data.draw(st.integers(0, len(lines[line]) - 1))
    other = data.draw(st.sampled_from('0123456789abcdefxyz{}":, '))
    changed = lines[line][:place] + other + lines[line][place + 1 :]
    try:
        is_same = json.loads(changed) == json.loads(lines[line])
    except ValueError:
        is_same = False
    path.write_text("".join(f"{text}\n" for text in [*lines[:line], changed, *lines[line + 1 :]]))
    if is_same:
        return
    with pytest.raises(ChainError) as error:
        read_entries(path)
    # a `prev_hash` or a `hash` that was changed to hold with the line itself is seen at the next one at the latest
    assert error.value.line in (line + 1, line + 2)


@pytest.mark.parametrize("line", range(5))
def test_a_line_that_was_taken_out_is_named(tmp_path: Path, line: int) -> None:
    """T16."""
    lines = written(tmp_path / "audit.jsonl")
    (tmp_path / "audit.jsonl").write_text("".join(f"{text}\n" for text in lines[:line] + lines[line + 1 :]))
    with pytest.raises(ChainError, match="missing or moved") as error:
        read_entries(tmp_path / "audit.jsonl")
    assert error.value.line == line + 1


@pytest.mark.parametrize(("one", "other"), [(0, 1), (2, 4), (4, 5)])
def test_lines_that_changed_places_are_named(tmp_path: Path, one: int, other: int) -> None:
    """T16."""
    lines = written(tmp_path / "audit.jsonl")
    lines[one], lines[other] = lines[other], lines[one]
    (tmp_path / "audit.jsonl").write_text("".join(f"{text}\n" for text in lines))
    with pytest.raises(ChainError, match="missing or moved") as error:
        read_entries(tmp_path / "audit.jsonl")
    assert error.value.line == one + 1


def test_a_line_that_was_written_anew_with_a_fitting_hash_is_seen_at_the_next(tmp_path: Path) -> None:
    """T16."""
    lines = written(tmp_path / "audit.jsonl")
    forged = json.loads(lines[2]) | {"text": "nothing happened"}
    forged["hash"] = hash_of(forged)
    lines[2] = json.dumps(forged)
    (tmp_path / "audit.jsonl").write_text("".join(f"{text}\n" for text in lines))
    with pytest.raises(ChainError) as error:
        read_entries(tmp_path / "audit.jsonl")
    assert error.value.line == 4


def test_lines_cut_from_the_end_are_seen_with_an_anchor_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = written(path)
    anchor = anchor_of(read_entries(path), now=NOW)
    keep_anchor(tmp_path / "anchors.txt", anchor)
    path.write_text("".join(f"{text}\n" for text in lines[:4]))
    cut = read_entries(path)  # whole, as far as it goes
    assert len(cut) == 4
    (kept,) = read_anchors(tmp_path / "anchors.txt")
    with pytest.raises(ChainError, match="cut from the end") as error:
        check_anchor(path, cut, kept)
    assert error.value.line == 5


def test_a_log_that_was_written_anew_does_not_hold_to_its_anchor(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written(path)
    anchor = anchor_of(read_entries(path), now=NOW)
    path.unlink()
    with locked_log(path) as log:
        for number in range(8):
            log.append({"kind": "note", "text": f"another story {number}"})
    with pytest.raises(ChainError, match="written anew"):
        check_anchor(path, read_entries(path), anchor)


def test_an_anchor_in_a_git_tag_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.org")
    os.system("git init -q . && git commit -q --allow-empty -m first")
    written(tmp_path / "audit.jsonl")
    anchor = anchor_of(read_entries(tmp_path / "audit.jsonl"), now=NOW)
    tag_anchor("audit-1", anchor)
    assert read_tag("audit-1") == anchor
    with pytest.raises(ConfigError, match="audit-2"):
        read_tag("audit-2")


@pytest.mark.parametrize("text", ["", "x", "6", "six " + "a" * 64, "6 " + "A" * 64])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        parse_anchor(text, "anchors.txt:1")


def test_a_torn_line_was_never_applied_and_the_next_writer_takes_it_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = written(path, 3)
    with path.open("a") as file:
        file.write(lines[2][:40])
    assert len(read_entries(path)) == 3
    with locked_log(path) as log:
        log.append({"kind": "note"})
    assert [entry.number for entry in read_entries(path)] == [1, 2, 3, 4]


def test_writers_wait_for_one_another(tmp_path: Path) -> None:
    def write() -> None:
        for _ in range(10):
            with locked_log(tmp_path / "audit.jsonl") as log:
                log.append({"kind": "note"})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_entries(tmp_path / "audit.jsonl")) == 40


def test_nan_is_no_entry(tmp_path: Path) -> None:
    with locked_log(tmp_path / "audit.jsonl") as log, pytest.raises(ValueError, match="not JSON compliant"):
        log.append({"kind": "note", "value": float("nan")})
    assert not (tmp_path / "audit.jsonl").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_on_a_full_disk_nothing_changes(place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """F32: the step is refused, and the log can be written again later."""
    release = brought_to(place, S.CANARY)
    before = place.audit_log.read_bytes()
    full = os.open("/dev/full", os.O_WRONLY)
    real = os.write
    monkeypatch.setattr(
        os, "write", lambda descriptor, data: real(full, data) if len(data) > 50 else real(descriptor, data)
    )
    with pytest.raises(ReleaseError, match="No space left on device"):
        rolled_back(place, release, now=NOW + 9)
    with pytest.raises(ReleaseError, match="No space left on device"):
        check_writable(place.audit_log)
    monkeypatch.undo()
    os.close(full)
    assert read_release(place, release.id) == release
    assert place.audit_log.read_bytes() == before
    assert rolled_back(place, release, now=NOW + 10).state is S.ROLLED_BACK


def test_a_line_that_half_fits_leaves_nothing(place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """F32."""
    release = brought_to(place, S.CANARY)
    before = place.audit_log.read_bytes()
    real, calls = os.write, []

    def half(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(ReleaseError, match="nothing was changed"):
        rolled_back(place, release, now=NOW + 9)
    monkeypatch.undo()
    assert place.audit_log.read_bytes() == before


def test_tables_are_made_of_the_log_alone(place: ReleasePlace) -> None:
    """A database that was lost is there again, but for what gateways wrote."""
    first = brought_to(place, S.GENERAL)
    second = brought_to(place, S.CANARY, candidate="third", now=NOW + 100)
    rolled_back(place, second, now=NOW + 200)
    routing, workflow, releases = read_routing(place.store, "support"), read_workflow(place), list_releases(place)
    with place.store.read() as connection:
        known = [dict(row._mapping) for row in connection.execute(incidents.select())]
    with place.store.write() as connection:
        for table in metadata.sorted_tables:
            if table.name != "agentrl_schema":
                connection.execute(table.delete())
    with ledger(place):
        pass
    assert list_releases(place) == releases
    assert read_workflow(place) == workflow
    assert read_routing(place.store, "support") == routing
    with place.store.read() as connection:
        assert [dict(row._mapping) for row in connection.execute(incidents.select())] == known
    assert read_release(place, first.id).state is S.GENERAL


def test_a_log_that_the_store_has_outrun_is_refused(place: ReleasePlace) -> None:
    """T16: the database is an anchor too."""
    release = brought_to(place, S.SHADOW)
    lines = place.audit_log.read_text().splitlines(keepends=True)
    place.audit_log.write_text("".join(lines[:-1]))
    with pytest.raises(ReleaseError, match="lines were cut from its end"):
        step(place, release, S.CANARY, now=NOW + 9)


def test_an_entry_is_applied_once(place: ReleasePlace) -> None:
    started(place)
    for _ in range(3):
        with ledger(place):
            pass
    with place.store.read() as connection:
        assert len(connection.execute(transitions.select()).all()) == 1
