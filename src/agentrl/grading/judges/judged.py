"""What the graders share that ask a judge: the connection, the version, and what a reply cost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agentrl.config.graders import LabelModelConfig, RubricConfig, ScoreModelConfig
from agentrl.endpoint import Endpoint
from agentrl.grading.grader import content_version
from agentrl.grading.judges.cache import VerdictCache
from agentrl.grading.judges.client import Answer, Judge, Question
from agentrl.grading.judges.connection import connect
from agentrl.grading.judges.reply import NoVerdict
from agentrl.grading.submission import Submission
from agentrl.grading.surroundings import Surroundings
from agentrl.grading.templates import MissingValue
from agentrl.types import Grade

MAX_EXPLANATION_CHARS = 4_000
MAX_ID_CHARS = 200
STEPS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    },
}
"""How a judge shows its reasoning before its result."""


class JudgedGrader:
    """A grader that asks a judge; a subclass says what, and what a verdict is worth.

    Args:
        further: what else decides its scores, such as the criteria of a rubric's file.

    Raises:
        ConfigError: the judge's address must not be called, or its key's variable is not set.
    """

    def __init__(
        self,
        config: ScoreModelConfig | LabelModelConfig | RubricConfig,
        around: Surroundings | None = None,
        **further: Any,
    ) -> None:
        judge, name = config.judge, f"grader {config.name or config.type}"
        connection = connect(name, config.model, judge)
        decisive = {key: getattr(judge, key) for key in judge.content} | connection.content
        self._content = content_version(config, judge=decisive, **further)
        self._least, self._best, self._judge_config = config.least_score, config.best_score, judge
        cache = VerdictCache(Path(judge.cache_path) if judge.cache_path else None, is_on=judge.cache)
        endpoint = connection.open(judge, around or Surroundings())
        self.judge = Judge(connection, endpoint, judge, config.sampling_params, self._content, cache)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.judge!r})"

    @property
    def version(self) -> str:
        """Of the declaration, the address and the model asked; a grade carries the model that answered, if it has
        another name."""
        return self._content

    @property
    def endpoint(self) -> Endpoint:
        """The judge's server: its health and its statistics."""
        return self.judge.endpoint

    async def aclose(self) -> None:
        await self.judge.aclose()

    async def grade(self, submission: Submission) -> Grade:
        """Ask for the score."""
        started = time.perf_counter()
        try:
            grade = await self._grade(submission)
        except MissingValue as missing:
            grade = missing.grade(self._least)
        return replace(grade, seconds=time.perf_counter() - started)

    async def _grade(self, submission: Submission) -> Grade:
        raise NotImplementedError

    async def _ask(self, question: Question, submission: Submission) -> Answer:
        return await self.judge.ask(question, quote(submission.trace_id, errors="replace")[:MAX_ID_CHARS])

    def _graded(self, score: float, answers: Iterable[Answer], **fields: Any) -> Grade:
        """A score, and what the answers behind it cost."""
        answers = list(answers)
        told = sorted({answer.told_model for answer in answers} - {"", self.judge.connection.model})
        version = " ".join([self.version, *(f"model={name}" for name in told)])
        return Grade(score, version=version, **fields, **self._costs(answers))

    def _failed(self, answers: Iterable[Answer]) -> Grade:
        """No score, as one of the answers is none; the least one where the declaration wants hosted behaviour."""
        answers = list(answers)
        failed = next(answer for answer in answers if not answer.has_verdict)
        costs, errors = self._costs(answers), (failed.flag,)
        if self._judge_config.on_parse_error == "zero" and failed.flag != "model_grader_server_error":
            score = max(self._least, min(0.0, self._best))
            return Grade(score, explanation=failed.why, errors=errors, version=self.version, **costs)
        return Grade(None, failed.why, errors=errors, version=self.version, **costs)

    def _costs(self, answers: list[Answer]) -> dict[str, Any]:
        """Tokens by model, and US dollars; tokens that have no price are counted as `unpriced`."""
        spent = sum((answer.spent for answer in answers), start=type(answers[0].spent)())
        if not (spent.prompt or spent.completion):
            return {}
        tokens = {"prompt": spent.prompt, "completion": spent.completion, "cached": spent.cached}
        cost_usd = self.judge.prices_of(spent)
        if cost_usd is None:
            tokens["unpriced"] = spent.prompt + spent.completion
        return {"cost_usd": cost_usd or 0.0, "tokens": {self.judge.connection.model: tokens}}


def verdict_schema(result: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of a verdict: the judge's steps, then a result of this schema."""
    return {
        "type": "object",
        "properties": {"steps": STEPS, "result": result},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }


def steps_of(verdict: dict[str, Any]) -> str:
    """A judge's steps in words, one a line; empty where it shows none."""
    steps = verdict.get("steps")
    lines = [_step(step) for step in steps] if isinstance(steps, list) else []
    return "\n".join(filter(None, lines))[:MAX_EXPLANATION_CHARS]


def _step(step: Any) -> str:
    if isinstance(step, str):
        return step
    if not isinstance(step, dict):
        return ""
    return ": ".join(str(step[key]) for key in ("description", "conclusion") if step.get(key))


def number_of(value: Any, what: str) -> float:
    """A finite number.

    Raises:
        NoVerdict: it is none; text, true and numbers beyond every float are none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoVerdict(f"found {what} {value!r:.80}; allowed: a number")
    try:
        return float(value)
    except OverflowError:
        raise NoVerdict(f"found {what} beyond every float") from None
