"""Simulated users: each asks one question of the annual reports, runs the tools that the agent calls, and judges it.

They are clients as any team has them: OpenAI's protocol, a session id of their own, FinQA's real tools and grader at
home. Who comes when, who asks what and who overrides which answer is drawn from a seed; which policy answers them they
do not know.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from agentrl.chat import BUDGET_SPENT, MALFORMED, announce_budget
from examples.finqa.corpus import load_corpus
from examples.finqa.grader import grade_answer
from examples.finqa.pages import Question
from examples.finqa.tasks import to_task
from examples.finqa.tools import FinqaTools

MAX_TOOL_CALLS = 10
MAX_ANSWERS = 14
RIGHT = 0.999
FEEDBACK_ATTEMPTS, FEEDBACK_PAUSE_SECONDS = 20, 0.5
"""A gateway that was killed is back within seconds."""
OVERRIDES_WRONG, OVERRIDES_RIGHT = 0.6, 0.02
"""How often a person replaces an answer that is wrong, and one that is right."""


@dataclass(frozen=True)
class Visit:
    """One session, as the user saw it."""

    session_id: str
    score: float | None
    """None: it got no answer."""
    is_override: bool
    violations: int
    tool_calls: int
    tool_errors: int
    seconds: float
    error: str = ""


@dataclass
class Crowd:
    """Everybody who uses the product.

    Attributes:
        url: of the gateway, up to and including /v1; it may move between two sessions.
        per_second: arrivals, at random times.
        at_once: sessions under way; who comes then waits at the door.
    """

    url: str
    headers: Mapping[str, str]
    tools: FinqaTools
    questions: Sequence[Question]
    seed: int
    per_second: float = 12.0
    at_once: int = 24
    streamed: float = 0.25
    """Share of the users whose client asks for streams."""
    visits: list[Visit] = field(default_factory=list)
    _came: int = 0

    @classmethod
    def of(cls, data: Path, url: str, headers: Mapping[str, str], *, seed: int, split: str = "test") -> Crowd:
        """Users who ask the questions of a split."""
        corpus = load_corpus(data)
        questions = [question for question in corpus.questions if question.split == split]
        return cls(url, headers, FinqaTools(corpus), questions, seed)

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Users come as long as this lasts; at its end those who are there finish."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.at_once)
        async with (
            httpx.AsyncClient(headers=dict(self.headers), limits=limits, timeout=60, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            arrivals = group.create_task(self._arrive(client, group))
            try:
                yield
            finally:
                arrivals.cancel()

    async def _arrive(self, client: httpx.AsyncClient, group: asyncio.TaskGroup) -> None:
        places = asyncio.Semaphore(self.at_once)
        while True:
            number = self._came
            self._came += 1
            gap = random.Random(f"{self.seed}/gap/{number}").expovariate(self.per_second)
            await asyncio.sleep(gap)
            await places.acquire()
            visit = group.create_task(self._visit(client, number))
            visit.add_done_callback(lambda _: places.release())

    async def _visit(self, client: httpx.AsyncClient, number: int) -> None:
        person = random.Random(f"{self.seed}/person/{number}")
        question = person.choice(self.questions)
        session = f"visit-{self.seed}-{number:05d}"
        user = f"user-{person.randrange(10_000):04d}"
        headers = {"X-Session-Id": session, "X-User-Id": user, "X-Intent": intent(question)}
        self.visits.append(await self._ask(client, question, session, user, headers, person))

    async def _ask(
        self,
        client: httpx.AsyncClient,
        question: Question,
        session: str,
        user: str,
        headers: dict[str, str],
        person: random.Random,
    ) -> Visit:
        started = time.monotonic()
        messages = announce_budget(to_task(question).messages, MAX_TOOL_CALLS)
        calls = errors = 0
        answer, error = None, ""
        body = {
            "model": "finqa-agent",
            "prompt_cache_key": session,
            "user": user,
            "stream": person.random() < self.streamed,
        }
        is_overridden = person.random()
        for _ in range(MAX_ANSWERS):
            try:
                message = await _complete(
                    client, self.url, {**body, "messages": messages, "seed": person.getrandbits(31)}, headers
                )
            except (httpx.HTTPError, ValueError) as broken:
                error = f"{type(broken).__name__}: {broken}"[:200]
                break
            messages.append(message)
            if not message.get("tool_calls"):
                answer = message.get("content") or ""
                break
            if calls >= MAX_TOOL_CALLS:
                break  # it was told, and called again
            for index, call in enumerate(message["tool_calls"]):
                output = self._run(call["function"]) if calls < MAX_TOOL_CALLS else BUDGET_SPENT
                calls += 1
                errors += output.startswith("error:") or output == MALFORMED
                if calls >= MAX_TOOL_CALLS and index == len(message["tool_calls"]) - 1 and output != BUDGET_SPENT:
                    output = f"{output}\n{BUDGET_SPENT}"
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": output})
        score = None if error else grade_answer(answer or "", question.answer, question.answer_text)
        is_right = score is not None and score >= RIGHT
        visit = Visit(
            session_id=session,
            score=score,
            is_override=is_overridden < (OVERRIDES_RIGHT if is_right else OVERRIDES_WRONG),
            violations=self._quotes_another(answer or "", question),
            tool_calls=calls,
            tool_errors=errors,
            seconds=time.monotonic() - started,
            error=error,
        )
        await self._tell(client, visit, headers)
        return visit

    def _run(self, function: Mapping[str, Any]) -> str:
        try:
            arguments = json.loads(function["arguments"])
        except ValueError:
            return MALFORMED
        return self.tools.call(function["name"], arguments) if isinstance(arguments, dict) else MALFORMED

    def _quotes_another(self, answer: str, own: Question) -> int:
        """How many questions of other users stand in an answer: those are nobody else's to read."""
        return sum(each.question in answer for each in self.questions if each.question != own.question)

    async def _tell(self, client: httpx.AsyncClient, visit: Visit, headers: dict[str, str]) -> None:
        """Feedback, as the product's own systems would send it."""
        if visit.score is None:
            return
        session = visit.session_id
        events: list[dict[str, Any]] = [
            {"kind": "outcome", "success": visit.score >= RIGHT},
            {"kind": "grade", "score": visit.score},
            {"kind": "override", "override": visit.is_override},
            {"kind": "tool", "calls": visit.tool_calls, "errors": visit.tool_errors},
            {"kind": "safety", "violations": visit.violations},
        ]
        told = [
            {**event, "event_id": f"{session}-{event['kind']}", "session_id": session, "at": time.time()}
            for event in events
        ]
        for _ in range(FEEDBACK_ATTEMPTS):  # the same events count once, however often they are told
            try:
                await client.post(f"{self.url}/feedback", json={"events": told}, headers=headers)
            except httpx.HTTPError:
                await asyncio.sleep(FEEDBACK_PAUSE_SECONDS)
            else:
                return


def intent(question: Question) -> str:
    """What a question is about, as a product would tag it: a figure that is printed, or one to be calculated."""
    return "calculate" if any(sign in question.program for sign in "+-*/(") else "look up"


async def _complete(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], headers: dict[str, str]
) -> dict[str, Any]:
    """One turn: the assistant's message.

    Raises:
        httpx.HTTPError: no answer, or one that is none.
        ValueError: an answer in another form.
    """
    if not body["stream"]:
        reply = await client.post(f"{url}/chat/completions", json=body, headers=headers)
        reply.raise_for_status()
        return {key: value for key, value in reply.json()["choices"][0]["message"].items() if value}
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    is_done = False
    async with client.stream("POST", f"{url}/chat/completions", json=body, headers=headers) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                is_done = True
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise ValueError(f"the stream ends with an error: {chunk['error']}")
            for choice in chunk["choices"]:
                text.append(choice["delta"].get("content") or "")
                calls += choice["delta"].get("tool_calls") or []
    if not is_done:
        raise ValueError("the stream ends without [DONE]")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text)}
    if calls:
        message["tool_calls"] = [{key: call[key] for key in ("id", "type", "function")} for call in calls]
    return message
