"""`type: rubric`: weighted criteria that a model judges one by one.

score = sum(w * s) / sum(w) over criteria, each s from 0 to 1 (Rubrics as Rewards, arXiv:2507.17746); an answer that
does not meet a required criterion scores 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from agentrl.config.graders import RubricConfig
from agentrl.config.graders.judges import CriterionConfig, RubricFile
from agentrl.config.loading import refusal
from agentrl.config.messages import explain
from agentrl.config.source import read
from agentrl.grading.judges.client import Question
from agentrl.grading.judges.judged import MAX_EXPLANATION_CHARS, JudgedGrader
from agentrl.grading.judges.prompt import judge_messages, with_instructions
from agentrl.grading.judges.reply import NoVerdict
from agentrl.grading.submission import Submission
from agentrl.grading.surroundings import Surroundings
from agentrl.types import Grade, Message

INSTRUCTIONS = (
    "You judge an answer by the criteria below, each by itself: an answer that fails one may well meet the next. For "
    "each criterion give first the reason, which points to what the answer says, and then the level that it reaches. "
    "Where the answer does not show that a criterion is met, it is not met."
)
Levels = dict[str, tuple[int, str]]
"""Criterion -> level and reason."""


def read_rubric(path: str) -> RubricFile:
    """The rubric in a YAML file.

    Raises:
        ConfigError: anything wrong with it, each mistake with its line.
    """
    source = read(path, starts_with="criteria:")
    problems = list(source.problems)
    try:
        rubric = RubricFile.model_validate(source.values)
    except ValidationError as error:
        raise refusal(source, [*problems, *explain(error, RubricFile, source)]) from None
    if problems:
        raise refusal(source, problems)
    return rubric


class RubricGrader(JudgedGrader):
    """Asks for a level and a reason for each criterion; one that is not judged leaves the whole ungraded."""

    def __init__(self, config: RubricConfig, around: Surroundings | None = None) -> None:
        rubric = read_rubric(config.rubric) if config.rubric else config
        self._label, self._criteria = rubric.version, rubric.criteria
        shown = {
            "criteria": [criterion.model_dump(mode="json") for criterion in rubric.criteria],
            "messages": [message.model_dump(mode="json") for message in config.messages],
        }
        super().__init__(config, around, **shown)
        self._config = config

    @property
    def version(self) -> str:
        """The digest of declaration and criteria, and the version that the rubric gives itself."""
        return f"{super().version} rubric_version={self._label}"

    async def _grade(self, submission: Submission) -> Grade:
        asked = [self._criteria] if self._config.ask == "together" else [(each,) for each in self._criteria]
        answers = await asyncio.gather(*(self._ask(self._question(each, submission), submission) for each in asked))
        if not all(answer.has_verdict for answer in answers):
            return self._failed(answers)
        levels = {id_: found for answer in answers for id_, found in answer.verdict.items()}
        scores = {each.id: levels[each.id][0] / (each.levels - 1) for each in self._criteria}
        lines = [f"{each.id} {scores[each.id]:g}: {levels[each.id][1]}".rstrip(": ") for each in self._criteria]
        unmet = [each.id for each in self._criteria if each.required and scores[each.id] < each.met_from]
        total = rubric_score(self._criteria, scores)
        if unmet:
            lines.insert(0, f"Not met, though required: {', '.join(unmet)}; without that the score were {total:g}.")
        explanation = "\n".join(lines)[:MAX_EXPLANATION_CHARS]
        return self._graded(0.0 if unmet else total, answers, sub_scores=scores, explanation=explanation)

    def _question(self, criteria: Sequence[CriterionConfig], submission: Submission) -> Question:
        def write(token: str | None) -> list[Message]:
            return with_instructions(judge_messages(self._config.messages, submission, token), _instructions(criteria))

        return Question(write, _schema(criteria), lambda verdict: _levels(criteria, verdict))


def rubric_score(criteria: Sequence[CriterionConfig], scores: dict[str, float]) -> float:
    """The weighted mean of the criteria's scores, gates aside."""
    weights = sum(each.weight for each in criteria)
    return min(1.0, sum(each.weight * scores[each.id] for each in criteria) / weights)


def _instructions(criteria: Sequence[CriterionConfig]) -> str:
    return "\n\n".join([INSTRUCTIONS, *map(_described, criteria)])


def _described(criterion: CriterionConfig) -> str:
    levels = criterion.anchors or ("not met", "met")
    return "\n".join(
        [f"{criterion.id}: {criterion.text}", *(f"  {level}: {text}" for level, text in enumerate(levels))]
    )


def _schema(criteria: Sequence[CriterionConfig]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            criterion.id: {
                "type": "object",
                "properties": {
                    "reason": {"type": "string"},
                    "level": {"type": "integer", "enum": list(range(criterion.levels))},
                },
                "required": ["reason", "level"],
                "additionalProperties": False,
            }
            for criterion in criteria
        },
        "required": [criterion.id for criterion in criteria],
        "additionalProperties": False,
    }


def _levels(criteria: Sequence[CriterionConfig], verdict: dict[str, Any]) -> Levels:
    """Level and reason of each criterion.

    Raises:
        NoVerdict: one is missing, or no level of its criterion.
    """
    found: Levels = {}
    for criterion in criteria:
        given = verdict.get(criterion.id)
        if not isinstance(given, dict):
            raise NoVerdict(f"criterion {criterion.id} was not judged")
        level = given.get("level")
        if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < criterion.levels:
            allowed = f"a whole number from 0 to {criterion.levels - 1}"
            raise NoVerdict(f"criterion {criterion.id}: found level {level!r:.80}; allowed: {allowed}")
        found[criterion.id] = level, str(given.get("reason", ""))
    return found
