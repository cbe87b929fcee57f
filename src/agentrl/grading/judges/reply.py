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

from agentrl.endpoint import excerpt
from agentrl.strict_json import strict_json

VERDICT_ID = "verdict_id"
MAX_CHARS = 100_000
MAX_MENTIONS, MAX_BRACES = 3, 100
"""Of the id, and before each: a verdict is looked for in so many places at most, as a policy shapes what is quoted."""
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
    decoder = json.JSONDecoder()
    for start in _openings(text, verdict_id):
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if found.get(VERDICT_ID) == verdict_id:
            verdict = _strict(text[start:end])
            return {key: value for key, value in verdict.items() if key != VERDICT_ID}
    raise NoVerdict(f"found no JSON object with this question's {VERDICT_ID}{excerpt(text)}")


def _openings(text: str, verdict_id: str) -> Iterator[int]:
    """Braces before a mention of the id, from the last mention and the nearest brace back."""
    end = len(text)
    for _ in range(MAX_MENTIONS):
        if (end := text.rfind(verdict_id, 0, end)) < 0:
            return
        brace = end
        for _ in range(MAX_BRACES):
            if (brace := text.rfind("{", 0, brace)) < 0:
                break
            yield brace


def _strict(text: str) -> dict[str, Any]:
    try:
        found = strict_json(text)
    except ValueError as error:
        raise NoVerdict(f"the reply is no JSON ({str(error)[:100]}){excerpt(text)}") from None
    if not isinstance(found, dict):
        raise NoVerdict(f"the reply is a JSON {type(found).__name__}, where an object is expected")
    return found
