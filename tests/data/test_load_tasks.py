"""Tasks from files and loaders: every mistake is named where it stands."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import DataConfig
from agentrl.data import Splits, load_tasks
from agentrl.data.rows import read_tasks
from agentrl.errors import ConfigError


def row(text: str, **item: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **item}


def write(path: Path, rows: list[Any]) -> str:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8", newline="")
    return str(path)


def load(
    folder: Path, train: list[Any], validation: list[Any] | None = None, test: list[Any] | None = None, **limits: int
) -> Splits:
    files = {"train": train, "validation": [row("v")] if validation is None else validation, "test": test}
    paths = {name: write(folder / f"{name}.jsonl", rows) for name, rows in files.items() if rows is not None}
    return load_tasks(DataConfig(**paths, **limits))  # type: ignore[arg-type]


def found_in(folder: Path, line: Any) -> str:
    """The message for a line that follows a good one, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load(folder, [row("good"), line])
    return str(caught.value).replace(f"{folder}/", "")


def test_rows_become_tasks_with_an_item(tmp_path: Path) -> None:
    splits = load(tmp_path, [row("a", id="q-1", reference_answer=1), row("b", path="p")], test=[row("c")])
    first, second = splits.train
    assert (first.id, first.messages[0]["content"]) == ("q-1", "a")
    assert first.item == {"id": "q-1", "reference_answer": 1}
    assert (second.id, second.item) == ("train-2", {"path": "p"})
    assert (splits.validation[0].id, splits.test[0].id) == ("validation-1", "test-1")
    assert str(splits) == "2 train, 1 validation, 1 test tasks"


def test_all_roles_are_read_and_text_parts_joined(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u", "name": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "t", "tool_call_id": "c"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    task = load(tmp_path, [{"messages": messages}]).train[0]
    assert [message["content"] for message in task.messages] == ["s", "d", "u", "", "t", "a\nb"]
    assert task.messages[3]["tool_calls"] == [call]


def test_bom_crlf_blank_lines_and_number_ids_are_read(tmp_path: Path) -> None:
    lines = ["\ufeff" + json.dumps(row("a", id=7)) + "\r", "", json.dumps(row("é")) + "\r", "\r"]
    assert [task.id for task in load(tmp_path, lines).train] == ["7", "train-3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": [', "train.jsonl:2: found malformed JSON (Expecting value"),
        ('{"messages": [], "messages": []}', "train.jsonl:2: found malformed JSON (key 'messages' appears twice"),
        ('{"messages": [], "x": NaN}', "train.jsonl:2: found malformed JSON (NaN is no JSON number"),
        ("[1]", "train.jsonl:2: found a list; allowed: a JSON object with `messages`"),
        ({"prompt": "x"}, "train.jsonl:2: found no `messages` (keys: prompt)"),
        ({"messages": "hi"}, "train.jsonl:2: found messages: text; allowed: a list"),
        ({"messages": []}, "train.jsonl:2: found messages: an empty list; allowed"),
        ({"messages": ["hi"]}, "train.jsonl:2: found messages[0]: text; allowed: an object"),
        (
            {"messages": [{"role": "human", "content": ""}]},
            "messages[0].role 'human'; allowed: system, developer, user",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content: null; allowed: text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content: a list; allowed"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "a last message of role 'assistant'; allowed: user"),
        (row("x", id=""), "found id ''; allowed: text"),
        (row("x", id=True), "found id True; allowed: text"),
        (row("x", id="train-1"), "found id 'train-1', which line 1 has too"),
        (row("x" * 2**20), "bytes; allowed: 1,048,576"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_allowed(tmp_path: Path, line: Any, message: str) -> None:
    assert message in found_in(tmp_path, line)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    config = DataConfig(train=str(tmp_path / "t.jsonl"), validation=write(tmp_path / "v.jsonl", [row("v")]))
    (tmp_path / "t.jsonl").write_bytes(b'{"messages": "\xff"}\n')
    with pytest.raises(ConfigError, match=r"t\.jsonl:1: found a byte that is not UTF-8 at 14; save the file as UTF-8"):
        load_tasks(config)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.train: cannot read .*nowhere\.jsonl \(No such file"):
        load_tasks(DataConfig(train=str(tmp_path / "nowhere.jsonl"), validation=write(tmp_path / "v", [row("v")])))
    for rows in ([], ["", "  "]):
        with pytest.raises(ConfigError, match=r"data\.validation: .*validation\.jsonl is empty"):
            load(tmp_path, [row("a")], rows)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (row("a", id="q"), row("b", id="q"), "1 task of train and validation share ids: 'q'"),
        (row("same  words"), row("same words"), "share user messages: 'train-1' and 'validation-1' (same words)"),
        (row("same", path="p"), row("same"), "share user messages"),
        (row("a", path="p/1"), row("b", path="p/1"), """share documents (item["path"]): 'p/1' ('train-1'"""),
    ],
)
def test_splits_that_overlap_are_refused(tmp_path: Path, train: Any, validation: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, [train], [validation])
    with pytest.raises(ConfigError, match=re.escape(message.replace("validation", "test"))):
        load(tmp_path, [train], test=[validation])


def test_the_same_words_about_two_documents_are_two_questions(tmp_path: Path) -> None:
    assert load(tmp_path, [row("revenue ?", path="a")], [row("revenue ?", path="b")]).train


def test_an_overlap_is_counted_and_its_first_offenders_named(tmp_path: Path) -> None:
    rows = [row(f"q{i}", id=f"i{i}") for i in range(5)]
    with pytest.raises(
        ConfigError, match=r"5 tasks of train and validation share ids: 'i0', 'i1', 'i2', \.\.\."
    ) as caught:
        load(tmp_path, rows, rows)
    assert "5 tasks of train and validation share user messages" in str(caught.value)


def test_limits_keep_the_first_tasks_but_all_are_checked(tmp_path: Path) -> None:
    rows = [row(f"q{i}") for i in range(4)]
    splits = load(tmp_path, rows, test=[row("t1"), row("t2")], max_train=3, max_validation=9, max_test=1)
    assert [task.id for task in splits.train] == ["train-1", "train-2", "train-3"]
    assert (len(splits.validation), len(splits.test)) == (1, 1)
    with pytest.raises(ConfigError, match="overlap"):
        load(tmp_path, rows, [rows[3]], max_train=1)


def test_the_digest_changes_with_any_task_and_with_nothing_else(tmp_path: Path) -> None:
    digest = load(tmp_path, [row("a", x=1, y=2), row("b")]).digest()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert load(tmp_path, [row("a", y=2, x=1), row("b")]).digest() == digest
    for train in ([row("b"), row("a", x=1, y=2)], [row("a", x=1, y=3), row("b")], [row("a", x=1, y=2)]):
        assert load(tmp_path, train).digest() != digest


LOADER = """
from pathlib import Path
from agentrl.types import Task

def task(id, **item):
    return Task(id, ({"role": "user", "content": id},), item)

def load(path):
    assert isinstance(path, Path)
    return {"train": [task("a"), task("b")], "validation": [task("c")], "test": (task(str(path)),)}

def wrong_type(path): return [task("a")]
def wrong_split(path): return {"train": [task("a")], "validatoin": [task("c")]}
def no_validation(path): return {"train": [task("a")], "validation": []}
def no_tasks(path): return {"train": [{"id": "a"}], "validation": [task("c")]}
def twice(path): return {"train": [task("a"), task("a")], "validation": [task("c")]}
def bad_message(path): return {"train": [Task("a", ({"role": "user"},))], "validation": [task("c")]}
def bad_item(path): return {"train": [task("a", when={1, 2})], "validation": [task("c")]}
def overlap(path): return {"train": [task("a")], "validation": [task("a")]}
def missing_file(path): return open(path / "nowhere")
CONSTANT = 3
"""


@pytest.fixture
def loader_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a loader that is not on sys.path."""
    (tmp_path / "my_loader.py").write_text(LOADER)
    (tmp_path / "broken_loader.py").write_text("import no_such_library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "my_loader", raising=False)
    return tmp_path


def test_a_loader_is_imported_from_the_working_directory(loader_folder: Path) -> None:
    before = list(sys.path)
    splits = load_tasks(DataConfig(loader="my_loader:load", path="corpus", max_train=1))
    assert [task.id for task in (*splits.train, *splits.validation, *splits.test)] == ["a", "c", "corpus"]
    assert sys.path == before


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ("no_such_module:load", "cannot import no_such_module (ModuleNotFoundError"),
        ("broken_loader:load", "cannot import broken_loader (ModuleNotFoundError: No module named 'no_such_library')"),
        ("my_loader:laod", "laod does not exist in my_loader"),
        ("my_loader:CONSTANT", "CONSTANT is no function in my_loader"),
        ("my_loader:wrong_type", "found a list; allowed: a dict of split to list of Task"),
        (
            "my_loader:wrong_split",
            "found split 'validatoin'; allowed: train, validation, test; did you mean 'validation'?",
        ),
        ("my_loader:no_validation", "found no validation tasks"),
        ("my_loader:no_tasks", "train[0]: found a dict; allowed: agentrl.types.Task"),
        ("my_loader:twice", "train[1]: found id 'a' a second time"),
        ("my_loader:bad_message", "train[0]: found messages[0].content: null"),
        ("my_loader:bad_item", "train[0]: found item values that are no JSON"),
        ("my_loader:overlap", "train and validation share ids: 'a'"),
        ("my_loader:missing_file", "it raised FileNotFoundError"),
    ],
)
def test_an_unusable_loader_says_why(loader_folder: Path, loader: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_tasks(DataConfig(loader=loader, path=str(loader_folder)))


def test_tools_of_a_row_are_a_list_of_objects(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "x"}], "tools": ["search"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=r"train.jsonl:1: found tools: a list; allowed: a list of chat-completions"):
        read_tasks(tmp_path / "train.jsonl", "train")
