"""Kinds that ask a language model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import ALLOW_LISTS, NonEmpty, Section


class JudgeConfig(Section):
    """Where a judge model is reached: any OpenAI-compatible server."""

    base_url: NonEmpty | None = Field(default=None, description="Of the API, such as https://api.openai.com/v1.")


class ScoreModelConfig(GraderSection):
    """A model that answers with a number in `range`."""

    type: Literal["score_model"] = Field(description="Kind of grader.")
    model: NonEmpty = Field(description="The judge's name at its server.")
    input: Annotated[tuple[dict[str, Any], ...], ALLOW_LISTS] = Field(description="Messages, with templates in them.")
    range: Annotated[tuple[float, float], ALLOW_LISTS] = Field(default=(0.0, 1.0), description="Least and best score.")
    judge: JudgeConfig = Field(default=JudgeConfig(), description="Where the model is reached.")

    @property
    def best_score(self) -> float:
        return self.range[1]

    @property
    def least_score(self) -> float:
        return self.range[0]


class LabelModelConfig(GraderSection):
    """A model that picks a label; 1 where it is one of `passing_labels`, else 0."""

    type: Literal["label_model"] = Field(description="Kind of grader.")
    model: NonEmpty = Field(description="The judge's name at its server.")
    input: Annotated[tuple[dict[str, Any], ...], ALLOW_LISTS] = Field(description="Messages, with templates in them.")
    labels: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(description="What it may choose from.")
    passing_labels: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(description="Those that score 1.")
    judge: JudgeConfig = Field(default=JudgeConfig(), description="Where the model is reached.")


class RubricConfig(GraderSection):
    """A model that judges weighted criteria one by one; required ones gate the total."""

    type: Literal["rubric"] = Field(description="Kind of grader.")
    model: NonEmpty = Field(description="The judge's name at its server.")
    judge: JudgeConfig = Field(default=JudgeConfig(), description="Where the model is reached.")
