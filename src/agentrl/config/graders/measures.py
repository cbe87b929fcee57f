"""Kinds that compare text, numbers and JSON without asking anybody."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import Fraction, NonEmpty, NonNegative, PathParts, Positive, Problem

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

    def templates(self) -> Iterator[tuple[PathParts, str]]:
        yield from ((("input",), self.input), (("reference",), self.reference))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.evaluation_metric == "cosine":
            found = "found cosine, which needs an embedding model and is for hosted evaluations only"
            yield Problem(
                ("evaluation_metric",), f"{found}; allowed here: fuzzy_match, bleu, gleu, meteor, rouge_1 to _5, _l"
            )


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
    """Whether the answer is JSON of a schema, with partial credit for the share of its properties that hold."""

    type: Literal["json_schema"] = Field(description="Kind of grader.")
    input: Template = Field(default="{{ sample.output_text }}", description="Template of the answer.")
    json_schema: dict[str, Any] = Field(
        description="The JSON schema, of draft 2020-12 if it does not say; or `{name, schema}`, as in response formats."
    )
    partial_credit: bool = Field(
        default=False,
        description="Score the share of the required properties, or of all where none is required, that are there and "
        "valid.",
    )

    def templates(self) -> Iterator[tuple[PathParts, str]]:
        yield ("input",), self.input

    @property
    def schema_alone(self) -> dict[str, Any]:
        """The schema without the name that response formats give it."""
        inner = self.json_schema.get("schema")
        return inner if isinstance(inner, dict) and "name" in self.json_schema else self.json_schema

    @property
    def patterns(self) -> tuple[str, ...]:
        """Every regular expression in the schema."""
        named = [value for key, value in _keywords(self.schema_alone) if key == "pattern" and isinstance(value, str)]
        keys = [key for name, value in _keywords(self.schema_alone) if name == "patternProperties" for key in value]
        return tuple(dict.fromkeys((*named, *keys)))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        keywords = list(_keywords(self.schema_alone))
        for key, value in keywords:
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                found = (
                    f"found the reference '{value:.80}'; allowed: references inside the schema, such as #/$defs/part"
                )
                yield Problem(("json_schema",), found)
        if {"unevaluatedProperties", "patternProperties"} <= {key for key, _ in keywords}:
            found = "found unevaluatedProperties beside patternProperties; allowed: additionalProperties beside them"
            yield Problem(("json_schema",), found)
        if find_spec("jsonschema"):  # where it is missing, building the grader says so
            yield from self._no_schema(import_module("jsonschema"))

    def _no_schema(self, jsonschema: Any) -> Iterator[Problem]:
        kind = jsonschema.validators.validator_for(self.schema_alone, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(self.schema_alone)
        except jsonschema.SchemaError as error:
            wrapper = () if self.schema_alone is self.json_schema else ("schema",)
            found = f"found no JSON schema: {error.message:.120}"
            yield Problem(("json_schema", *wrapper, *error.absolute_path), found)


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a schema with its value, at any depth."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
