"""Kinds that compare text, numbers and JSON without asking anybody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import Fraction, NonEmpty, NonNegative, PathParts, Positive

Template = str
"""Text with `{{ item.KEY }}` and `{{ sample.KEY }}` in it."""


class StringCheckConfig(GraderSection):
    """1 where the comparison holds, else 0; nothing is trimmed, `%` and `_` are plain characters."""

    type: Literal["string_check"] = Field(description="Kind of grader.")
    input: Template = Field(description="Template of the text under test.")
    reference: Template = Field(description="Template of the expected text.")
    operation: Literal["eq", "ne", "neq", "like", "ilike"] = Field(
        description="`eq`, `ne` (or `neq`): equal or not; `like`: input contains reference; `ilike`: ignoring case."
    )

    def templates(self) -> Iterator[tuple[PathParts, str]]:
        yield from ((("input",), self.input), (("reference",), self.reference))


class TextSimilarityConfig(GraderSection):
    """From 0 to 1, how alike two texts are."""

    type: Literal["text_similarity"] = Field(description="Kind of grader.")
    input: Template = Field(description="Template of the text under test.")
    reference: Template = Field(description="Template of the expected text.")
    evaluation_metric: Literal[
        "cosine",
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ] = Field(description="Which measure; docs/graders.md says how each is computed.")


class NumericConfig(GraderSection):
    """Whether the answer states the reference's number; percent and fraction are one number, units are not ignored."""

    type: Literal["numeric"] = Field(description="Kind of grader.")
    input: Template = Field(default="{{ sample.output_text }}", description="Template of the answer.")
    reference: Template = Field(default="{{ item.reference_answer }}", description="Template of the right number.")
    printed: Template | None = Field(
        default=None, description="Template of the right number as it is printed, maybe rounded: it is right as well."
    )
    relative_tolerance: NonNegative = Field(default=0.0, description="Distance that still is right, of the reference.")
    absolute_tolerance: NonNegative = Field(default=0.0, description="Distance that still is right, as it stands.")
    near_score: Fraction = Field(
        default=0.5, description="Score of a near miss or a rounded reference; 0 gives no partial credit."
    )
    near_tolerance: NonNegative = Field(default=0.001, description="Distance of a near miss, of the reference.")
    units: dict[NonEmpty, Positive] = Field(
        default={},
        description="Further units behind a number and what they multiply it by, such as `{km: 1000, m: 1}`; percent "
        "and scale words such as million are known.",
    )

    def templates(self) -> Iterator[tuple[PathParts, str]]:
        yield from ((("input",), self.input), (("reference",), self.reference))
        if self.printed is not None:
            yield ("printed",), self.printed


class JsonSchemaConfig(GraderSection):
    """Whether the answer is JSON of a schema, with partial credit for the share of its required parts that hold."""

    type: Literal["json_schema"] = Field(description="Kind of grader.")
    input: Template = Field(default="{{ sample.output_text }}", description="Template of the answer.")
    json_schema: dict[str, Any] = Field(description="The JSON schema (draft 2020-12).")
    partial_credit: bool = Field(default=False, description="Score the share of properties that are valid.")
