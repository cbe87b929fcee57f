"""The messages of a declaration, filled in for one answer, as chat completions take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentrl.config.graders.judge import JudgeMessage
from agentrl.config.graders.templates import Variable, parse_template
from agentrl.grading.judges.fence import fenced
from agentrl.grading.submission import Submission
from agentrl.grading.templates import MissingValue, as_text, render, value_of
from agentrl.types import Message

IMAGE_SCHEMES = ("https://", "data:image/")


def judge_messages(messages: Sequence[JudgeMessage], submission: Submission, token: str | None) -> list[Message]:
    """What the judge is sent.

    Args:
        token: of the fence around what comes from the sample; None for none.

    Raises:
        MissingValue: a template names what is not there.
    """
    return [{"role": message.role, "content": _content(message, submission, token)} for message in messages]


def fill_in(template: str, submission: Submission, token: str | None) -> str:
    """A template's text, with a fence around each part that the policy wrote.

    Raises:
        MissingValue: a path leads nowhere.
    """
    if token is None:
        return render(template, submission)
    return "".join(
        piece if isinstance(piece, str) else _value(piece, submission, token) for piece in parse_template(template)
    )


def _value(variable: Variable, submission: Submission, token: str) -> str:
    text = as_text(value_of(variable, submission), variable)
    return fenced(text, token) if variable.path[0] == "sample" else text


def _content(message: JudgeMessage, submission: Submission, token: str | None) -> str | list[dict[str, Any]]:
    blocks = [_block(block, submission, token) for block in message.blocks]
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return blocks


def _block(block: dict[str, Any], submission: Submission, token: str | None) -> dict[str, Any]:
    match block["type"]:
        case "input_image":
            image = {"url": _image_url(block["image_url"], submission)}
            if block.get("detail") is not None:
                image["detail"] = block["detail"]
            return {"type": "image_url", "image_url": image}
        case "input_audio":
            filled = {key: render(text, submission) for key, text in block["input_audio"].items()}
            return {"type": "input_audio", "input_audio": filled}
        case _:
            return {"type": "text", "text": fill_in(block["text"], submission, token)}


def _image_url(template: str, submission: Submission) -> str:
    """An address from a row or an answer makes the judge's server fetch something: never from its own network."""
    url = render(template, submission)
    if not url.startswith(IMAGE_SCHEMES):
        variables = [piece for piece in parse_template(template) if isinstance(piece, Variable)]
        where = variables[0] if variables else Variable(("item", "image_url"))
        raise MissingValue(where, f"is no image address; allowed: {' or '.join(IMAGE_SCHEMES)}...")
    return url


def with_instructions(messages: list[Message], text: str, *, at_end: bool = False) -> list[Message]:
    """The messages with a text of ours: as the system's, or at the end of the user's last.

    Never as a message where one of that role is: many chat templates take one system message, and roles in turn.
    """
    if at_end:
        if messages and messages[-1]["role"] == "user":
            return [*messages[:-1], _joined(messages[-1], text, is_after=True)]
        return [*messages, {"role": "user", "content": text}]
    if messages and messages[0]["role"] in ("system", "developer"):
        return [_joined(messages[0], text, is_after=False), *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _joined(message: Message, text: str, *, is_after: bool) -> Message:
    content = message["content"]
    if isinstance(content, str):
        parts = [content, text] if is_after else [text, content]
        return {**message, "content": "\n\n".join(parts)}
    block = {"type": "text", "text": text}
    return {**message, "content": [*content, block] if is_after else [block, *content]}
