"""gpt-oss' syntax, Harmony: messages with a channel each, and a recipient where they are calls."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentrl.chat.syntax import Syntax, Tools
from agentrl.chat.turn import Reading, read_json, written_call

BOUNDARY = re.compile(r"<\|(?:start|end|call|return)\|>")
CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
RECIPIENT = re.compile(r"\bto=([^\s<]+)")
MESSAGE = "<|message|>"


class Harmony(Syntax):
    """`<|channel|>commentary to=functions.name <|constrain|>json<|message|>{...}<|call|>`.

    Channel `analysis` holds thoughts, `final` the answer, `commentary` calls (by their recipient) and what is said
    before them. A turn ends with `<|call|>` or `<|return|>`; `<|end|>` only ends a message, and the turn goes on.
    So a turn makes one call: parallel ones are not in the format.
    """

    name = "harmony"
    example = "<|channel|>commentary to=functions.name <|constrain|>json<|message|>{...}<|call|>"
    stops = ("<|return|>", "<|call|>", "<|endoftext|>")

    def read(self, text: str, *, is_thinking: bool = False, tools: Tools = None) -> Reading:
        del is_thinking, tools  # a thought is a message of its own; arguments are JSON
        final, commentary, reasoning, thoughts, calls = [], [], [], [], []
        for start, end, message in _messages(text):
            header, mark, body = message.partition(MESSAGE)
            channel = found.group(1) if (found := CHANNEL.search(header)) else ""
            if recipient := RECIPIENT.search(header):
                name = recipient.group(1).removeprefix("functions.")
                calls.append(written_call(message, name, read_json(body)))
            elif channel == "analysis":
                reasoning.append(body.strip())
                thoughts.append((start, end))
            elif channel == "commentary":
                commentary.append(body)
            else:
                final.append(body if mark else message)
        answer = "\n".join(final or commentary).strip()
        return Reading(answer, tuple(calls), "\n".join(filter(None, reasoning)), tuple(thoughts))


def _messages(text: str) -> Iterator[tuple[int, int, str]]:
    """Beginning, end (closing mark included) and text of each message."""
    start = 0
    for boundary in BOUNDARY.finditer(text):
        if text[start : boundary.start()].strip():
            yield start, boundary.end(), text[start : boundary.start()]
        start = boundary.end()
    if text[start:].strip():
        yield start, len(text), text[start:]
