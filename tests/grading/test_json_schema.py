"""An answer is held against a schema, and neither the answer nor the schema can make that last."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from agentrl.config.graders import JsonSchemaConfig
from agentrl.errors import ConfigError
from agentrl.grading import Grader, Submission, build_declared, json_schema
from agentrl.types import Grade

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "pattern": "^[A-Z]"},
        "people": {"type": "integer", "minimum": 0},
        "rivers": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
    "required": ["city", "people"],
    "additionalProperties": False,
}


def grade(answer: Any, schema: dict[str, Any] = CITY, *, partial: bool = False, **fields: Any) -> Grade:
    config = JsonSchemaConfig(type="json_schema", json_schema=schema, partial_credit=partial, **fields)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return asyncio.run(build_declared(config).grade(Submission.of_text(text, {})))


PARIS = {"city": "Paris", "people": 2_100_000}


@pytest.mark.parametrize(
    ("answer", "score", "share", "says"),
    [
        (PARIS, 1, 1, "the schema holds"),
        ({**PARIS, "rivers": ["Seine"]}, 1, 1, "the schema holds"),
        ({**PARIS, "people": "many"}, 0, 1 / 2, "people: 'many' is not of type 'integer'"),
        ({"people": 1}, 0, 1 / 2, "'city' is a required property"),
        ({**PARIS, "city": "paris"}, 0, 1 / 2, "city: 'paris' does not match '^[A-Z]'"),
        ({**PARIS, "rivers": [1]}, 0, 2 / 3, "rivers/0: 1 is not of type 'string'"),
        ({**PARIS, "rivers": ["Seine", "Seine"]}, 0, 2 / 3, "rivers: has items that are equal"),
        ({**PARIS, "mayor": "x"}, 0, 2 / 3, "'mayor' is no property of the schema"),
        ({}, 0, 0, "'city' is a required property"),
        ([PARIS], 0, 0, "is not of type 'object'"),
        (None, 0, 0, "None is not of type 'object'"),
    ],
)
def test_an_answer_is_valid_or_in_part(answer: Any, score: float, share: float, says: str) -> None:
    found, partly = grade(answer), grade(answer, partial=True)
    assert (found.score, found.errors, found.reason) == (score, (), "")
    assert partly.score == pytest.approx(share)
    assert says in found.explanation


@pytest.mark.parametrize("answer", ["", "Paris", '{"city": ', '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', "{}{}"])
def test_what_is_no_json_is_worth_nothing_and_flagged(answer: str) -> None:
    found = grade(answer, partial=True)
    assert (found.score, found.errors) == (0.0, ("sample_parse_error",))
    assert found.explanation.startswith("no JSON: ")


def test_a_part_of_the_answer_may_be_held_against_the_schema() -> None:
    found = grade({"place": PARIS}, input="{{ sample.output_json.place }}")
    assert found.score == 1
    assert grade({"places": 1}, input="{{ sample.output_json.place }}").errors == ("sample_parse_error",)


def test_the_form_of_response_formats_is_accepted() -> None:
    assert grade(PARIS, {"name": "city", "strict": True, "schema": CITY}).score == 1
    assert grade({}, {"name": "city", "strict": True, "schema": CITY}).score == 0


def test_references_inside_the_schema_are_followed() -> None:
    tree = {"$defs": {"node": {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}}}}
    assert grade({"a": {"b": {}}}, {**tree, "$ref": "#/$defs/node"}).score == 1
    assert grade({"a": {"b": 1}}, {**tree, "$ref": "#/$defs/node"}).score == 0


DEEP: dict[str, Any] = {"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["b"]}] * 2}
NESTED = '{"a":' * 60 + "{}" + "}" * 60


@pytest.mark.parametrize(
    ("answer", "schema", "why"),
    [
        ("[" * 100_000 + "]" * 100_000, {}, "nested too deeply"),
        ('{"a":' * 5000 + "1" + "}" * 5000, {}, "nested too deeply"),
        ("x" * 1_000_001, {}, "found 1,000,001 characters"),
        (["a" * 60 + "bc"], {"items": {"pattern": "(?:a?){60}a{60}c"}}, ""),
        (["x" * 5000 + "!"], {"items": {"pattern": "(x+x+)+y"}}, "took more than 0.05 s"),
        ({"x" * 5000 + "!": 1}, {"patternProperties": {"(x+x+)+y": {}}}, "took more than 0.05 s"),
        ({"x" * 5000 + "!": 1}, {"patternProperties": {"(x+x+)+y": {}}, "additionalProperties": False}, "took more"),
        (NESTED, DEEP, "the validation took more than 0.1 s"),
        (10**400, {"multipleOf": 0.5}, "too large"),
        ({}, {"$ref": "#"}, ""),
        ({}, {"$ref": "#/$defs/nothing"}, "nothing"),
    ],
)
def test_t21_what_takes_too_long_is_ungraded(
    answer: Any, schema: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_schema, "SECONDS", 0.1)
    json_schema._pattern.cache_clear()
    found = grade(answer, schema)
    json_schema._pattern.cache_clear()
    if why:
        assert found.score is None
        assert why in found.reason
        assert found.errors
    else:
        assert found.score is None or 0 <= found.score <= 1


def test_unique_items_are_found_in_linear_time() -> None:
    items = [{"n": n} for n in range(5_000)]
    assert grade(items, {"uniqueItems": True}).score == 1
    assert grade([*items, {"n": 7.0}], {"uniqueItems": True}).score == 0
    assert grade([1, True, "1", [1]], {"uniqueItems": True}).score == 1


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "objekt"}, "'objekt' is not valid"),
        ({"properties": {"a": {"pattern": "("}}}, "is not a 'regex'"),
        ({"patternProperties": {"a{999999}": {}}}, "counted repeats"),
        ({"$ref": "https://example.com/schema.json"}, "allowed: references inside the schema"),
        ({"unevaluatedProperties": False, "patternProperties": {"a": {}}}, "additionalProperties beside them"),
    ],
)
def test_an_unusable_schema_is_refused(schema: dict[str, Any], complaint: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=complaint):
        build_declared(JsonSchemaConfig(type="json_schema", json_schema=schema))


def test_verdicts_are_those_of_jsonschema() -> None:
    import jsonschema

    rng = random.Random(3)

    def value(depth: int = 0) -> Any:
        kinds = [None, True, 0, 1.0, 7, "Paris", "x", ["a", "a"], [1], PARIS]
        if depth < 2 and rng.random() < 0.6:
            keys = ("city", "people", "rivers", "mayor", "x1")
            return {rng.choice(keys): value(depth + 1) for _ in range(rng.randint(0, 4))}
        return rng.choice(kinds)

    schemas = [CITY, {"additionalProperties": {"type": "string"}, "patternProperties": {"^x": {"type": "integer"}}}]
    for schema in schemas:
        answers = [value() for _ in range(300)]
        expected = [float(jsonschema.Draft202012Validator(schema).is_valid(answer)) for answer in answers]
        grader = build_declared(JsonSchemaConfig(type="json_schema", json_schema=schema))

        async def grade_all(texts: list[str], grader: Grader = grader) -> list[float | None]:
            return [(await grader.grade(Submission.of_text(text, {}))).score for text in texts]

        assert asyncio.run(grade_all(list(map(json.dumps, answers)))) == expected


def test_t21_many_names_that_each_take_a_pattern_long_are_stopped_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them takes long enough to be stopped by itself."""
    schema = {"type": "object", "patternProperties": {"^(a|aa|aaa)+$": {"type": "number"}}}
    answer = json.dumps({f"{'a' * 16}{number}": 1 for number in range(4_000)})
    monkeypatch.setattr(json_schema, "SECONDS", 0.1)
    found = grade(answer, schema)
    assert found.score is None
    assert "the validation took more than 0.1 s" in found.reason
