"""Conversations to token ids and labels: the loss is on what the assistant says, and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentrl.chat import for_template
from agentrl.errors import BaselineError, ConfigError

IGNORED = -100  # torch's cross entropy skips this label


def encode_file(tokenizer: Any, path: Path, max_length: int) -> list[dict[str, list[int]]]:
    """Every conversation of a file, encoded.

    Raises:
        ConfigError: see `read_conversations`; or the template refuses one, or nothing is left to learn (file:line).
        BaselineError: see `encode`.
    """
    rows = []
    for number, messages in read_conversations(path):
        try:
            row = encode(tokenizer, messages, max_length)
        except BaselineError:
            raise
        except Exception as error:  # a template is a program: it may raise anything
            raise ConfigError(f"{path}:{number}: the chat template refuses this conversation ({error})") from error
        if all(label == IGNORED for label in row["labels"]):
            raise ConfigError(f"{path}:{number}: the assistant speaks behind sft.max_length ({max_length} tokens) only")
        rows.append(row)
    return rows


def read_conversations(path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The line number and the `messages` of each line.

    Raises:
        ConfigError: the file is missing or empty, or a line is not a conversation (file:line).
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give a JSONL of {{messages: [...]}}")
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                messages = json.loads(line)["messages"]
                if not isinstance(messages, list) or not all(isinstance(m["role"], str) for m in messages):
                    raise TypeError("messages are a list of objects with a role")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                found = f"found no conversation ({type(error).__name__}: {error})"
                raise ConfigError(f"{path}:{number}: {found}; a line is {{'messages': [...]}}") from error
            if not any(message["role"] == "assistant" for message in messages):
                raise ConfigError(f"{path}:{number}: no assistant message to learn from")
            count += 1
            yield number, messages
    if not count:
        raise ConfigError(f"{path}: holds no conversation")


def encode(tokenizer: Any, messages: list[dict[str, Any]], max_length: int) -> dict[str, list[int]]:
    """Ids, and labels that are -100 off the assistant's tokens, cut at `max_length`.

    Encoded here rather than by trl: a table of messages would give every tool call the union of all argument names.

    Raises:
        BaselineError: the chat template has no `{% generation %}` marks.
    """
    encoded = tokenizer.apply_chat_template(
        for_template(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    if not any(encoded["assistant_masks"]):
        raise BaselineError(
            "the chat template marks no assistant tokens: put {% generation %} ... {% endgeneration %} around "
            "what the assistant says"
        )
    ids, mask = encoded["input_ids"][:max_length], encoded["assistant_masks"][:max_length]
    labels = [token if is_assistant else IGNORED for token, is_assistant in zip(ids, mask, strict=True)]
    return {"input_ids": ids, "labels": labels}
