"""`type: score_model`: a model that answers with a number in a range."""

from __future__ import annotations

from typing import Any

from agentrl.config.graders import ScoreModelConfig
from agentrl.grading.judges.client import Question
from agentrl.grading.judges.judged import JudgedGrader, number_of, steps_of, verdict_schema
from agentrl.grading.judges.prompt import judge_messages
from agentrl.grading.judges.reply import NoVerdict
from agentrl.grading.submission import Submission
from agentrl.grading.surroundings import Surroundings
from agentrl.types import Grade


class ScoreModelGrader(JudgedGrader):
    """Asks for `{steps, result}`; a result outside the range counts as the nearer end, as with hosted graders."""

    def __init__(self, config: ScoreModelConfig, around: Surroundings | None = None) -> None:
        super().__init__(config, around)
        self._config = config
        low, high = config.range
        self._schema = verdict_schema({"type": "number", "description": f"The score, from {low:g} to {high:g}."})

    async def _grade(self, submission: Submission) -> Grade:
        question = Question(
            lambda token: judge_messages(self._config.messages, submission, token), self._schema, self._read
        )
        answer = await self._ask(question, submission)
        if not answer.has_verdict:
            return self._failed([answer])
        score, explanation = answer.verdict
        return self._graded(score, [answer], explanation=explanation)

    def _read(self, verdict: dict[str, Any]) -> tuple[float, str]:
        if "result" not in verdict:
            raise NoVerdict(f"found a verdict without `result` (keys: {', '.join(map(repr, verdict)) or 'none':.200})")
        given = number_of(verdict["result"], "result")
        low, high = self._config.range
        score, explanation = max(low, min(given, high)), steps_of(verdict)
        if score != given:
            explanation = f"{explanation}\nThe judge said {given:g}, outside of {low:g} to {high:g}.".strip()
        return score, explanation
