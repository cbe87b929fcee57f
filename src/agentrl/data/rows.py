"""JSONL to tasks, in Agent RFT's form: `messages`, an optional `id`, and any other keys, which become `item`.

`tools`, chat-completions tool objects, is reserved too: the chat template describes them to the model.

{"messages": [{"role": "user", "content": "what was revenue in 2014 ?"}], "reference_answer": 950.9}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentrl.endpoint import MAX_BYTES
from agentrl.errors import ConfigError
from agentrl.strict_json import strict_json
from agentrl.types import Message, Task

ROLES = ("system", "developer", "user", "assistant", "tool")


def read_tasks(path: Path, split: str) -> tuple[Task, ...]:
    """All tasks of one file. A row without an id is called `<split>-<line>`. Blank lines are skipped.

    Raises:
        ConfigError: `file:line: what was found; what is allowed`, for the first line that is wrong.
    """
    key = f"data.{split}"
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot read {path} ({error.strerror or error}); paths start at {Path.cwd()}"
        ) from error
    tasks: list[Task] = []
    lines_by_id: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            task = _task(line, f"{split}-{number}")
            if task.id in lines_by_id:
                raise ValueError(f"found id {task.id!r}, which line {lines_by_id[task.id]} has too; ids are unique")
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
        lines_by_id[task.id] = number
        tasks.append(task)
    if not tasks:
        raise ConfigError(f"{key}: {path} is empty; it needs at least one task, a JSON object with `messages`, a line")
    return tuple(tasks)


def _task(line: bytes, default_id: str) -> Task:
    if len(line) > MAX_BYTES:
        raise ValueError(
            f"found {len(line):,} bytes; allowed: {MAX_BYTES:,}, since requests to tools and graders carry it"
        )
    try:
        row = strict_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"found a byte that is not UTF-8 at {error.start}; save the file as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"found malformed JSON ({error}); allowed: one JSON object a line") from error
    if not isinstance(row, dict):
        raise ValueError(f"found {_kind(row)}; allowed: a JSON object with `messages`")
    if "messages" not in row:
        raise ValueError(f"found no `messages` (keys: {', '.join(row) or 'none'}); every row has them")
    task_id = row.get("id", default_id)
    if isinstance(task_id, int) and not isinstance(task_id, bool):
        task_id = str(task_id)
    task = Task(task_id, row["messages"], {key: value for key, value in row.items() if key != "messages"})
    return checked_task(task)


def checked_task(task: Task) -> Task:
    """The task with its messages in the plain form, text parts joined.

    Raises:
        ValueError: what was found; what is allowed.
    """
    if not isinstance(task.id, str) or not task.id.strip():
        raise ValueError(f"found id {task.id!r:.80}; allowed: text that is not empty")
    if not isinstance(task.messages, list | tuple) or not task.messages:
        raise ValueError(f"found messages: {_kind(task.messages)}; allowed: a list of at least one message")
    messages = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(task.messages))
    if messages[-1]["role"] != "user":
        raise ValueError(f"found a last message of role {messages[-1]['role']!r}; allowed: user, who is to be answered")
    if not isinstance(task.item, dict):
        raise ValueError(f"found item: {_kind(task.item)}; allowed: an object")
    tools = task.item.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError(f"found tools: {_kind(tools)}; allowed: a list of chat-completions tool objects, or null")
    try:
        json.dumps(task.item, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"found item values that are no JSON ({error}); graders and tools receive them as JSON"
        ) from error
    return Task(task.id, messages, task.item)


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise ValueError(f"found {where}: {_kind(message)}; allowed: an object with role and content")
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"found {where}.role {role!r:.80}; allowed: {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        content = "\n".join(part["text"] for part in content)
    if content is None and role == "assistant" and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise ValueError(f"found {where}.content: {_kind(content)}; allowed: text, or a list of text parts")
    return {**message, "content": content}


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "input_text") and isinstance(part.get("text"), str)


def _kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    names = {dict: "an object", list: "a list", tuple: "a list", str: "text", bool: "true or false", type(None): "null"}
    if isinstance(value, list | tuple | str) and not value:
        return "an empty " + names[type(value)].split()[-1]
    return names.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
