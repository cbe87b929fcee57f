"""`type: label_model`: a model that picks a label; some labels pass."""

from __future__ import annotations

from typing import Any

from agentrl.config.graders import LabelModelConfig
from agentrl.grading.judges.client import Question
from agentrl.grading.judges.judged import JudgedGrader, steps_of, verdict_schema
from agentrl.grading.judges.prompt import judge_messages
from agentrl.grading.judges.reply import NoVerdict
from agentrl.grading.submission import Submission
from agentrl.grading.surroundings import Surroundings
from agentrl.types import Grade


class LabelModelGrader(JudgedGrader):
    """Asks for `{steps, result}`, where the result is one of the labels to the letter."""

    def __init__(self, config: LabelModelConfig, around: Surroundings | None = None) -> None:
        super().__init__(config, around)
        self._config = config
        self._schema = verdict_schema({"type": "string", "enum": list(config.labels)})

    async def _grade(self, submission: Submission) -> Grade:
        question = Question(
            lambda token: judge_messages(self._config.messages, submission, token), self._schema, self._read
        )
        answer = await self._ask(question, submission)
        if not answer.has_verdict:
            return self._failed([answer])
        label, steps = answer.verdict
        score = float(label in self._config.passing_labels)
        return self._graded(score, [answer], explanation=f"{steps}\nLabel: {label}".strip())

    def _read(self, verdict: dict[str, Any]) -> tuple[str, str]:
        label = verdict.get("result")
        if not isinstance(label, str) or label not in self._config.labels:
            raise NoVerdict(f"found label {label!r:.80}; allowed: {', '.join(self._config.labels)}")
        return label, steps_of(verdict)
