"""Suites: what was frozen is what is measured, or nothing is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from agentrl.errors import ConfigError
from agentrl.evaluation.conditions import tasks_digest
from agentrl.evaluation.suites import freeze_suite, read_suite
from agentrl.evaluation.tags import with_tags
from agentrl.types import Task
from tests.factories import make_task

TASKS = (
    Task("a", ({"role": "user", "content": "ü \u2028 \ud83d?"},), {"reference": 1.5, "tags": ["hard", "sums"]}),
    make_task("b", tags="hard", deep={"list": [1, None, "x\ny"]}),
    make_task("c"),
)


def freeze(folder: Path, **options: Any) -> Path:
    path = folder / "suite.json"
    freeze_suite(path, TASKS, **{"name": "suite", "split": "validation", "source": "toy", **options})
    return path


def test_a_suite_gives_back_the_very_tasks(tmp_path: Path) -> None:
    suite = read_suite(freeze(tmp_path, version="v1"))
    assert suite.tasks == TASKS
    assert tasks_digest(suite.tasks) == tasks_digest(TASKS)
    assert (suite.name, suite.version, suite.split, suite.source) == ("suite", "v1", "validation", "toy")
    assert suite.tags == {"hard": 2, "sums": 1}
    items = tmp_path / "suite.items.jsonl"
    assert suite.digest == hashlib.sha256(items.read_bytes()).hexdigest()  # as sha256sum says it


def test_equal_tasks_have_equal_digests_whenever_they_are_frozen(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first, again = freeze(tmp_path, version="1"), freeze(tmp_path / "again", name="other", version="2")
    assert read_suite(first).digest == read_suite(again).digest


def test_changed_items_are_refused_with_both_digests(tmp_path: Path) -> None:
    path = freeze(tmp_path)
    digest, items = read_suite(path).digest, tmp_path / "suite.items.jsonl"
    items.write_text(items.read_text().replace("1.5", "1.6"))
    changed = hashlib.sha256(items.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match=rf"found digest {changed}; suite\.json was written with {digest}"):
        read_suite(path)


def test_a_suite_is_never_overwritten_and_never_empty(tmp_path: Path) -> None:
    before = freeze(tmp_path).read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        freeze(tmp_path)
    assert (tmp_path / "suite.json").read_bytes() == before
    with pytest.raises(ConfigError, match="no tasks"):
        freeze_suite(tmp_path / "x.json", (), name="x", split="test", source="toy")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"format": "x"}, "found format 'x'"),
        ({"items": "../suite.items.jsonl"}, "is no suite"),
        ({"items": "gone.jsonl"}, "gone.jsonl, are not beside it"),
        ({"version": ...}, "is no suite"),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    path = freeze(tmp_path)
    record = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}))
    with pytest.raises(ConfigError, match=found):
        read_suite(path)


def test_rows_without_an_id_of_their_own_are_refused(tmp_path: Path) -> None:
    path, items = freeze(tmp_path), tmp_path / "suite.items.jsonl"
    items.write_text(items.read_text() * 2)
    record = json.loads(path.read_text()) | {"digest": hashlib.sha256(items.read_bytes()).hexdigest()}
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"suite.items.jsonl:4: found no row with an id of its own"):
        read_suite(path)
    for text in ("[]", "no json", ""):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"suite\.json"):
            read_suite(path)


def test_tags_choose_items_and_unknown_ones_are_refused() -> None:
    assert with_tags(TASKS, ()) == TASKS
    assert [task.id for task in with_tags(TASKS, ("sums",))] == ["a"]
    assert [task.id for task in with_tags(TASKS, ("sums", "hard"))] == ["a", "b"]
    with pytest.raises(ConfigError, match="tag 'easy': no item has it; allowed: hard, sums"):
        with_tags(TASKS, ("easy",))
    with pytest.raises(ConfigError, match="no item has a key `tags`"):
        with_tags(TASKS[2:], ("easy",))
