"""Kinds that ask a language model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.graders.judge import JudgeConfig, JudgeMessage, SamplingParams
from agentrl.config.graders.templates import texts_in
from agentrl.config.section import (
    ALLOW_LISTS,
    FilePath,
    NonEmpty,
    PathParts,
    Problem,
    Section,
    repeated,
)

Messages = Annotated[tuple[JudgeMessage, ...], ALLOW_LISTS, Field(min_length=1)]


DEFAULT_RANGE = (0.0, 1.0)


def _range_or_default(value: Any) -> Any:
    """OpenAI's client writes null for what was left out."""
    return DEFAULT_RANGE if value is None else value


class JudgedSection(GraderSection):
    """A model, what it is asked, and how."""

    # `judge` is in the version as far as it decides scores, see agentrl.grading.judges.client
    not_content: ClassVar[frozenset[str]] = GraderSection.not_content | {"judge", "model"}

    model: NonEmpty = Field(description="The judge's name at its server.")
    input: Messages = Field(description="Messages, with templates in them.")
    sampling_params: SamplingParams | None = Field(default=None, description="How the judge samples.")
    judge: JudgeConfig = Field(default=JudgeConfig(), description="Where the model is reached.")

    @property
    def messages(self) -> tuple[JudgeMessage, ...]:
        """What the judge is sent."""
        return self.input

    def templates(self) -> Iterator[tuple[PathParts, str]]:
        for index, message in enumerate(self.messages):
            yield from texts_in(message.content, ("input", index, "content"))


class ScoreModelConfig(JudgedSection):
    """A model that answers with a number in `range`; one outside of it counts as the nearer end."""

    type: Literal["score_model"] = Field(description="Kind of grader.")
    range: Annotated[tuple[float, float], BeforeValidator(_range_or_default), ALLOW_LISTS] = Field(
        default=DEFAULT_RANGE, description="Least and best score."
    )

    @property
    def best_score(self) -> float:
        return self.range[1]

    @property
    def least_score(self) -> float:
        return self.range[0]

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        low, high = self.range
        if not low < high:
            yield Problem(("range",), f"found [{low:g}, {high:g}]; allowed: the least score, then a better one")


class LabelModelConfig(JudgedSection):
    """A model that picks a label; 1 where it is one of `passing_labels`, else 0."""

    type: Literal["label_model"] = Field(description="Kind of grader.")
    labels: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS, Field(min_length=2)] = Field(
        description="What it may choose from."
    )
    passing_labels: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS, Field(min_length=1)] = Field(
        description="Those of them that score 1."
    )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        for index in repeated(self.labels):
            yield Problem(("labels", index), f"found '{self.labels[index]}' a second time; allowed: each label once")
        for index, label in enumerate(self.passing_labels):
            if label not in self.labels:
                allowed = f"one of the labels ({', '.join(self.labels)})"
                yield Problem(("passing_labels", index), f"found '{label}'; allowed: {allowed}")
        if set(self.labels) == set(self.passing_labels):
            yield Problem(("passing_labels",), "found every label, so that every answer passes; allowed: some of them")


class CriterionConfig(Section):
    """One question of a rubric."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        description="Its name in sub-scores; a score under another id is another criterion."
    )
    text: NonEmpty = Field(description="What a good answer does, in a sentence that can be true or false.")
    weight: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=1.0, description="Its share of the score, beside the others' weights."
    )
    type: Literal["binary", "ordinal"] = Field(
        default="binary", description="`binary`: met or not; `ordinal`: one of the levels that `anchors` describe."
    )
    anchors: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(
        default=(),
        description="What each level looks like, the worst first; they score evenly from 0 to 1. Two at most where it "
        "is binary.",
    )
    required: bool = Field(default=False, description="An answer that does not meet it scores 0 in all.")
    met_from: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Score of this criterion from which it is met, where it is required."
    )

    @property
    def levels(self) -> int:
        """How many a judge may choose from."""
        return 2 if self.type == "binary" else len(self.anchors)

    def problems(self) -> Iterator[Problem]:
        found = len(self.anchors)
        if self.type == "binary" and found not in (0, 2):
            yield Problem(("anchors",), f"found {found}; allowed: two, for not met and met, or none")
        elif self.type == "ordinal" and found < 2:
            yield Problem(("anchors",), f"found {found}; allowed: at least two, the worst level first")
        if self.met_from < 1 and not self.required:
            yield Problem(("met_from",), "found without `required: true`, which it is for; delete one of them")


class RubricContent(Section):
    """What a rubric's file holds, and what may stand in the grader itself."""

    version: NonEmpty = Field(
        default="1", description="The rubric's, for people. A changed criterion is another version whatever it says."
    )
    criteria: Annotated[tuple[CriterionConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="What the judge is asked, one by one."
    )

    def problems(self) -> Iterator[Problem]:
        ids = [criterion.id for criterion in self.criteria]
        for index in repeated(ids):
            yield Problem(("criteria", index, "id"), f"found '{ids[index]}' a second time; allowed: each id once")


class RubricFile(RubricContent):
    """A rubric in a file of its own."""

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if not self.criteria:
            yield Problem(("criteria",), "found none; allowed: a list of criteria, each with id and text")


WHOLE_TASK = (
    JudgeMessage(role="user", content="The task:\n{{ item.messages }}\n\nThe answer:\n{{ sample.output_text }}"),
)


class RubricConfig(JudgedSection, RubricContent):
    """A model that judges weighted criteria one by one; one that is required and not met makes the score 0."""

    not_content: ClassVar[frozenset[str]] = JudgedSection.not_content | {"rubric", "version", "criteria"}

    type: Literal["rubric"] = Field(description="Kind of grader.")
    input: Annotated[tuple[JudgeMessage, ...], ALLOW_LISTS] = Field(
        default=(),
        description="What the judge is shown of task and answer, after the criteria, which are a system message; none "
        "is the task's messages and the answer.",
    )
    rubric: FilePath | None = Field(
        default=None, description="YAML file with `version` and `criteria`, in place of those here."
    )
    ask: Literal["together", "each"] = Field(
        default="together", description="All criteria in one call, or one call each, which do not colour each other."
    )

    @property
    def messages(self) -> tuple[JudgeMessage, ...]:
        return self.input or WHOLE_TASK

    def problems(self) -> Iterator[Problem]:
        yield from JudgedSection.problems(self)
        yield from RubricContent.problems(self)
        if self.rubric is not None and self.criteria:
            yield Problem(("rubric",), "found a file beside `criteria`; keep one of them")
        if self.rubric is None and not self.criteria:
            yield Problem(("criteria",), "found none; allowed: a list of criteria, or `rubric:` with a file of them")
