"""A judge model: a question in, a verdict out, or why there is none.

It asks for replies that follow a JSON schema. A server that refuses that, or takes no notice of it, is asked in words.
A reply that is no verdict is asked for again, a few times; what all of them cost is counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agentrl.config.graders.judge import JudgeConfig, SamplingParams
from agentrl.endpoint import Endpoint, EndpointFailure, excerpt
from agentrl.grading.judges.cache import VerdictCache, digest, is_asked_afresh
from agentrl.grading.judges.connection import Connection
from agentrl.grading.judges.fence import new_token
from agentrl.grading.judges.prompt import with_instructions
from agentrl.grading.judges.reply import (
    VERDICT_ID,
    NoVerdict,
    Spent,
    marked_verdict,
    no_completion,
    spent_by,
    text_of,
    whole_verdict,
)
from agentrl.types import Message

logger = logging.getLogger(__name__)

ABOUT_SCHEMA = re.compile(r"response_format|json_schema|structured|guided|grammar|schema", re.IGNORECASE)
IN_WORDS = (
    'Answer with one JSON object. Its key "{key}" has the value "{value}"; for the rest it follows this JSON schema:\n'
    "{schema}"
)
SAVED_BY_WORDS = 3
"""Verdicts that came in words only, until the schema is given up."""
ASKING = 1
"""Raised whenever questions are put or verdicts are read in another way: those that are kept are asked for anew."""


@dataclass(frozen=True)
class Question:
    """What is asked, in what form the answer comes, and what is read from it."""

    write: Callable[[str | None], list[Message]]
    """The messages, given the token of the fence, or None for none."""
    schema: dict[str, Any]
    """Of the verdict: an object."""
    read: Callable[[dict[str, Any]], Any]
    """Raises NoVerdict where the object is none."""


@dataclass(frozen=True)
class Answer:
    """A verdict, or why there is none, and what it cost."""

    verdict: Any = None
    """What the question reads from the reply; None where there is none."""
    why: str = ""
    flag: str = ""
    """Of a graders/run reply, where there is no verdict."""
    spent: Spent = field(default_factory=Spent)
    told_model: str = ""
    """As the server calls the model that answered."""

    @property
    def has_verdict(self) -> bool:
        return not self.flag


class Judge:
    """One model at one server, as one grader asks it.

    Args:
        version: of the grader that asks; its verdicts are kept under it.
    """

    def __init__(
        self,
        connection: Connection,
        endpoint: Endpoint,
        config: JudgeConfig,
        sampling: SamplingParams | None,
        version: str,
        cache: VerdictCache,
    ) -> None:
        self.connection, self.endpoint, self.cache = connection, endpoint, cache
        self._config, self._version = config, version
        self._sampling = sampling.as_request() if sampling else {}
        self._is_structured = config.structured_output == "auto"
        self._saved_by_words = 0
        self._under_way: dict[str, asyncio.Task[Answer]] = {}

    def __repr__(self) -> str:
        return f"Judge({self.connection.model!r}, {self.endpoint.shown_url!r})"

    async def aclose(self) -> None:
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self.endpoint.aclose()

    def prices_of(self, spent: Spent) -> float | None:
        """What tokens cost, in US dollars; None where the model has no prices."""
        prices = self._config.prices.get(self.connection.model)
        if prices is None:
            return None
        return prices.cost_usd(prompt=spent.prompt, cached=spent.cached, completion=spent.completion)

    async def ask(self, question: Question, rollout_id: str) -> Answer:
        """The verdict on a question. The same question, asked twice at once, is one call; only one answer cost it.

        Raises:
            MissingValue: a template of the question names what is not there.
        """
        messages = question.write("0" * 16 if self._config.delimit else None)
        key = digest(ASKING, self._version, messages, question.schema, self._sampling)
        if (kept := self.cache.get(key)) is not None:
            try:
                return Answer(question.read(kept["verdict"]), told_model=str(kept["model"]))
            except (NoVerdict, KeyError, TypeError):
                logger.warning("%r: a kept verdict cannot be read, the question is asked again", self)
        if is_asked_afresh():
            return await self._ask(question, rollout_id, key)
        if (task := self._under_way.get(key)) is not None:
            return replace(await asyncio.shield(task), spent=Spent())
        task = asyncio.create_task(self._ask(question, rollout_id, key))
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, question: Question, rollout_id: str, key: str) -> Answer:
        spent, failed = Spent(), NoVerdict("the judge was not asked")
        is_structured = self._is_structured
        for attempt in range(self._config.parse_retries + 1):
            try:
                body, verdict_id = await self._post(question, rollout_id, attempt, is_structured=is_structured)
            except (EndpointFailure, _Refused) as failure:
                return Answer(why=str(failure), flag="model_grader_server_error", spent=spent)
            spent += spent_by(body)
            try:
                text = text_of(body)
            except NoVerdict as no_verdict:
                failed = no_verdict
                continue
            try:
                found = marked_verdict(text, verdict_id) if verdict_id else whole_verdict(text)
                verdict = question.read(found)
            except NoVerdict as no_verdict:
                failed = no_verdict
                is_structured = False  # the server may take no notice of the schema
                continue
            if attempt and verdict_id:
                self._got_by_words()
            model = body.get("model")
            told = model if isinstance(model, str) else ""
            self.cache.put(key, {"verdict": found, "model": told})
            return Answer(verdict, spent=spent, told_model=told)
        tried = f" ({attempt + 1} replies)" if attempt else ""
        why = f"{self.endpoint.name} at {self.endpoint.shown_url}: {failed}{tried}"
        return Answer(why=why, flag=failed.flag, spent=spent)

    def _got_by_words(self) -> None:
        """A verdict came in words that had not come by the schema."""
        self._saved_by_words += 1
        if self._is_structured and self._saved_by_words == SAVED_BY_WORDS:
            logger.warning("%r: takes no notice of the JSON schema; it is asked in words from now on", self)
            self._is_structured = False

    async def _post(
        self, question: Question, rollout_id: str, attempt: int, *, is_structured: bool
    ) -> tuple[dict[str, Any], str]:
        """A completion, and the id that a verdict in it has to carry; empty where the schema answers for it.

        Raises:
            EndpointFailure: the server did not answer.
            _Refused: it did not take the request.
        """
        is_structured = is_structured and self._is_structured
        verdict_id = "" if is_structured else new_token()
        body = self._request(question, attempt, verdict_id)
        reply = await self.endpoint.post(
            body, rollout_id=rollout_id, action=f"judge-{uuid.uuid4().hex}", check=no_completion
        )
        if reply.status < 400 and reply.json is not None:
            return reply.json, verdict_id
        if is_structured and reply.status in (400, 422) and ABOUT_SCHEMA.search(reply.text):
            logger.warning("%r: takes no JSON schema%s; it is asked in words", self, excerpt(reply.text))
            self._is_structured = False
            return await self._post(question, rollout_id, attempt, is_structured=False)
        found = f"answered {reply.status}{excerpt(reply.text)}"
        raise _Refused(f"{self.endpoint.name} at {self.endpoint.shown_url}: {found}")

    def _request(self, question: Question, attempt: int, verdict_id: str) -> dict[str, Any]:
        messages = question.write(new_token() if self._config.delimit else None)
        body: dict[str, Any] = {"model": self.connection.model, **self._sampling}
        if attempt and "seed" in body:
            body["seed"] += attempt
        if verdict_id:
            schema = json.dumps(question.schema, ensure_ascii=False)
            words = IN_WORDS.format(key=VERDICT_ID, value=verdict_id, schema=schema)
            messages = with_instructions(messages, words, at_end=True)
        else:
            form = {"name": "verdict", "strict": True, "schema": question.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if not self.connection.is_openai:  # other servers' templates know no developer
            roles = {"developer": "system"}
            messages = [{**message, "role": roles.get(message["role"], message["role"])} for message in messages]
        return {**body, "messages": messages}


class _Refused(Exception):
    """A 4xx."""
