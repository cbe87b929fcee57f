"""What a chat completion says: the verdict to the letter, or why there is none.

A reply that was held to a JSON schema is that JSON and nothing else. One that was asked for in words may have prose
around its verdict; then the verdict carries the id that the question gave, so that JSON which the judge only quotes
from the answer is not taken for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentrl.endpoint import excerpt, strict_json

VERDICT_ID = "verdict_id"
MAX_CHARS = 100_000
MAX_BRACES = 1_000
"""Places that a verdict is looked for in: what a reply may cost us is bounded."""
FENCED_BLOCK = re.compile(r"\A```(?:json)?\s*\n(.*)\n\s*```\Z", re.DOTALL)


class NoVerdict(Exception):
    """A reply that cannot be used; `flag` is that of a graders/run reply."""

    def __init__(self, why: str, *, is_refusal: bool = False) -> None:
        super().__init__(why)
        self.flag = "model_grader_refusal_error" if is_refusal else "model_grader_parse_error"


@dataclass(frozen=True)
class Spent:
    """Tokens of a reply."""

    prompt: int = 0
    cached: int = 0
    """Of `prompt`."""
    completion: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


def no_completion(body: dict[str, Any]) -> str:
    """What is wrong with the body of a 2xx reply; empty where it is a chat completion."""
    choices = body.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        return f"answered without `choices` (keys: {', '.join(map(repr, body)) or 'none':.200})"
    if not isinstance(choices[0].get("message"), dict):
        return "answered with a choice without a `message`"
    return ""


def spent_by(body: dict[str, Any]) -> Spent:
    """What the server says that it cost; 0 where it does not."""
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    prompt = _count(usage.get("prompt_tokens"))
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Spent(prompt, min(cached, prompt), _count(usage.get("completion_tokens")))


def _count(value: Any) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12
    return int(value) if is_count else 0


def text_of(body: dict[str, Any]) -> str:
    """What the judge wrote, without its thoughts.

    Raises:
        NoVerdict: it refused, was cut off, or wrote nothing.
    """
    choice = body["choices"][0]
    message = choice["message"]
    if refusal := message.get("refusal"):
        raise NoVerdict(f"the judge refused{excerpt(str(refusal))}", is_refusal=True)
    reason = choice.get("finish_reason")
    if reason == "content_filter":
        raise NoVerdict("the judge's server filtered the reply out", is_refusal=True)
    if reason == "length":
        raise NoVerdict("the reply was cut at its token limit; raise sampling_params.max_completions_tokens")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(
            str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("type") == "text"
        )
    if not isinstance(content, str):
        raise NoVerdict("the reply has no text")
    if len(content) > MAX_CHARS:
        raise NoVerdict(f"the reply has {len(content):,} characters, at most {MAX_CHARS:,} are read")
    text = content.rpartition("</think>")[2].strip().removeprefix("\ufeff")
    if not text:
        raise NoVerdict("the reply is empty")
    return text


def whole_verdict(text: str) -> dict[str, Any]:
    """The JSON object that a reply is.

    Raises:
        NoVerdict: it is none, or more than that.
    """
    block = FENCED_BLOCK.match(text)
    return _strict(block[1] if block else text)


def marked_verdict(text: str, verdict_id: str) -> dict[str, Any]:
    """The last JSON object of a reply that has the question's id.

    Raises:
        NoVerdict: there is none.
    """
    marked = [span for span, found in _objects(text) if found.get(VERDICT_ID) == verdict_id]
    if not marked:
        raise NoVerdict(f"found no JSON object with this question's {VERDICT_ID}{excerpt(text)}")
    verdict = _strict(marked[-1])
    return {key: value for key, value in verdict.items() if key != VERDICT_ID}


def _strict(text: str) -> dict[str, Any]:
    try:
        found = strict_json(text)
    except ValueError as error:
        raise NoVerdict(f"the reply is no JSON ({str(error)[:100]}){excerpt(text)}") from None
    if not isinstance(found, dict):
        raise NoVerdict(f"the reply is a JSON {type(found).__name__}, where an object is expected")
    return found


def _objects(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outermost JSON objects in a text, as written and as read."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(MAX_BRACES):
        position = text.find("{", position)
        if position < 0:
            return
        try:
            found, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        yield text[position:end], found
        position = end
    if text.find("{", position) >= 0:
        raise NoVerdict("the reply has too many braces to look for a verdict in")
