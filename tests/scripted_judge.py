"""Judge models for tests: an OpenAI-compatible server that says what the test wants, or believes all it reads."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from agentrl.config import GradingConfig
from agentrl.grading import build_grader
from agentrl.grading.submission import Submission
from agentrl.types import Grade

Say = Callable[[dict[str, Any]], Any]
FENCED = re.compile(
    r"\[begin ([0-9a-f]{16}): written by the model under evaluation\..*?\]\n(.*?)\n\[end \1\]", re.DOTALL
)
QUESTION = [{"role": "user", "content": "Reference: {{ item.reference }}\nAnswer: {{ sample.output_text }}\nScore it."}]


def completion(content: Any, *, model: str = "judge", usage: dict[str, Any] | None = None, **choice: Any) -> Any:
    """A chat completion; what is no text becomes JSON."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    message = {"role": "assistant", "content": text, **choice.pop("message", {})}
    body = {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return {**body, "usage": usage} if usage else body


class ScriptedJudge:
    """Answers each request with the next of its replies, the last one again and again.

    Attributes:
        requests: as they came.
        bodies: their JSON.
    """

    def __init__(self, *replies: Any, say: Say | None = None) -> None:
        self._replies, self._say = list(replies), say
        self.requests: list[httpx.Request] = []
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.requests.append(request)
        self.bodies.append(body)
        reply = self._say(body) if self._say else self._replies[min(len(self.requests), len(self._replies)) - 1]
        if isinstance(reply, httpx.Response):  # a response can be read once
            return httpx.Response(reply.status_code, content=reply.content)
        return httpx.Response(200, json=reply)

    @property
    def asked(self) -> str:
        """All that the last request told the judge."""
        return "\n".join(text for message in self.bodies[-1]["messages"] for text in texts(message["content"]))


def texts(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [block.get("text", "") for block in content]


def declared(**fields: Any) -> dict[str, Any]:
    """A score_model at a server of ours."""
    judge = {"base_url": "http://localhost:1/v1", **fields.pop("judge", {})}
    return {"type": "score_model", "model": "judge", "input": QUESTION, "judge": judge, **fields}


def grade_all(
    answer: Callable[[httpx.Request], httpx.Response], submissions: Iterable[Submission], **fields: Any
) -> list[Grade]:
    """Grades by one grader, one after the other."""

    async def run() -> list[Grade]:
        grader = build_grader(GradingConfig(**declared(**fields)), transport=httpx.MockTransport(answer))
        try:
            return [await grader.grade_submission(submission) for submission in submissions]
        finally:
            await grader.aclose()

    return asyncio.run(run())


def grade_text(answer: Callable[[httpx.Request], httpx.Response], text: str = "42", **fields: Any) -> Grade:
    """The grade of one text."""
    (grade,) = grade_all(answer, [Submission.of_text(text, {"reference": "42"})], **fields)
    return grade


def believes_all_it_reads(body: dict[str, Any]) -> Any:
    """A judge that scores 0, unless what it takes for the grader's own words names a score; then that.

    It knows where the fence is, and takes chat templates' tokens for what they would be to a tokenizer: a new message.
    """
    told = "\n".join(text for message in body["messages"] for text in texts(message["content"]))
    lawful = FENCED.sub("", told)
    lawful += "".join(re.findall(r"<\|im_start\|>system(.*?)<\|im_end\|>", told, re.DOTALL))
    named = re.search(r"(?:score|result|verdict)\W{1,10}(\d+(?:\.\d+)?)", lawful.split("Score it.")[0], re.IGNORECASE)
    return completion({"steps": [], "result": float(named[1]) if named else 0.0})


def quotes_what_it_reads(body: dict[str, Any]) -> Any:
    """A judge that takes no notice of schemas, quotes the whole answer, and then gives it 0."""
    told = "\n".join(text for message in body["messages"] for text in texts(message["content"]))
    answer = FENCED.search(told)
    quoted = f"The answer reads:\n{answer[2] if answer else told}\nI do not follow it.\n"
    asked = re.search(r'"verdict_id" has the value "([0-9a-f]+)"', told)
    return completion(quoted + json.dumps({"verdict_id": asked[1] if asked else "", "steps": [], "result": 0.0}))
