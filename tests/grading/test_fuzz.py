"""100,000 replies, templates, formulas, JSON values and pairs of texts: nothing raises, and every score is a number."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from agentrl.config.graders import JsonSchemaConfig, MultiConfig, NumericConfig, StringCheckConfig
from agentrl.config.graders.formula import FUNCTIONS, parse_formula
from agentrl.config.graders.formula_facts import range_of, weights_of
from agentrl.grading import Grader, Submission, build_declared
from agentrl.grading.formula import evaluate
from agentrl.grading.grader import ERROR_FLAGS
from agentrl.grading.templates import MissingValue, render
from agentrl.grading.text_similarity import measure_of

REPLIES, TEMPLATES, FORMULAS, VALUES, NUMBERS, PAIRS = 25_000, 25_000, 25_000, 5_000, 10_000, 10_000
WORDS = [
    *"0123456789.,-+()$€%:;/|\"'`{}[]<>=*#\\\n\t ",
    "the answer is ", "answer", "not ", "wrong", " or ", "27.2", "1e309", "1e-5", "million", " k", "nan", "inf",
    "minus ", "in 2014", "{{ item.ref }}", "{{", "}}", "item", "sample", ".output_text", ".output_json", "[0]", "['a']",
    '{"answer": ', '"score": 1.0', "null", "true", "x10^", "²", "½", "\u200b", "\u202f", "\ud800", "\x00", "é", "中",
    "٣", "9" * 400, "[" * 200, "(" * 50, "\u0301",
]  # fmt: skip
ITEM: dict[str, Any] = {"ref": 27.2, "a": {"b": [1, None, "x"]}, "messages": [{"role": "user", "content": "what ?"}]}


def written(rng: random.Random, pieces: Sequence[str] = WORDS, longest: int = 10) -> str:
    return "".join(rng.choices(pieces, k=rng.randint(0, longest)))


def all_are_scores(graders: Sequence[Grader], texts: Iterable[str]) -> int:
    """How many grades had a score."""

    async def run() -> int:
        graded = 0
        for text in texts:
            submission = Submission.of_text(text, ITEM)
            for grader in graders:
                grade = await grader.grade(submission)
                assert set(grade.errors) <= set(ERROR_FLAGS), text
                if grade.score is None:
                    assert grade.reason, text
                else:
                    assert 0 <= grade.score <= 1, text
                    graded += 1
        return graded

    return asyncio.run(run())


def test_25_000_replies() -> None:
    rng = random.Random(1)
    parts: dict[str, Any] = {
        "numeric": NumericConfig(type="numeric", reference="{{ item.ref }}"),
        "text": StringCheckConfig(
            type="string_check", input="{{ sample.output_text }}", reference="{{ item.ref }}", operation="ilike"
        ),
        "json": StringCheckConfig(
            type="string_check", input="{{ sample.output_json.answer }}", reference="27.2", operation="eq"
        ),
    }
    multi = MultiConfig(type="multi", graders=parts, calculate_output="max(numeric, 0.5*text + 0.5*json)")
    for grader, share in ((parts["numeric"], 0.8), (multi, 0.2)):
        texts = [written(rng) for _ in range(int(REPLIES * share))]
        assert all_are_scores([build_declared(grader)], texts) == len(texts)


def test_25_000_templates() -> None:
    rng, rendered = random.Random(2), 0
    submission = Submission.of_text('{"a": ["{{ item.ref }}"]}', ITEM)
    pieces = [*WORDS, "{{ item", "{{sample", "{{ item.a.b", "{{ item.ref", " }}", "}}", ".a", ".b", "[0]", "[9]"]
    for _ in range(TEMPLATES):
        with suppress(ValueError, MissingValue):
            text = render(written(rng, pieces, 5), submission)
            rendered += 1
            assert isinstance(text, str)
    assert rendered > TEMPLATES / 10


def test_25_000_formulas() -> None:
    rng, values = random.Random(3), 0
    pieces = [*"+-*/^(),. 0123456789", "**", "1e9", "9**9", "a", "b", "zero", "1e308", *FUNCTIONS, "min(", "a*", "+b"]
    scores = {"a": 0.5, "b": 0.25, "zero": 0.0}
    ranges = {name: (0.0, 1.0) for name in scores}  # noqa: C420
    for _ in range(FORMULAS):
        with suppress(ValueError):
            formula = parse_formula(written(rng, pieces, 8))
            bounds, weights = range_of(formula, ranges), weights_of(formula)
            assert bounds is None or all(map(math.isfinite, bounds))
            assert weights is None or all(map(math.isfinite, weights.values()))
            assert math.isfinite(evaluate(formula, scores))
            values += 1
    assert values > FORMULAS / 20


def test_5_000_json_values() -> None:
    rng = random.Random(4)
    leaves: list[Any] = [None, True, 0, -1, 1.5, 10**30, "", "Paris", "x" * 50, "\u0000", [], {}]

    def value(depth: int = 0) -> Any:
        if depth > 3 or rng.random() < 0.3:
            return rng.choice(leaves)
        if rng.random() < 0.5:
            return [value(depth + 1) for _ in range(rng.randint(0, 4))]
        return {rng.choice(["a", "b", "city", "", "x" * 30]): value(depth + 1) for _ in range(rng.randint(0, 4))}

    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "uniqueItems": True, "items": {"pattern": "^(a+)+$"}},
            "b": {"$ref": "#"},
        },
        "patternProperties": {"^(x+x+)+y": {}},
        "additionalProperties": {"type": ["string", "null"]},
        "required": ["city"],
    }
    config = JsonSchemaConfig(type="json_schema", json_schema=schema, partial_credit=True)
    assert all_are_scores([build_declared(config)], (json.dumps(value()) for _ in range(VALUES))) > VALUES * 0.9


def test_10_000_references() -> None:
    """Numbers as rows might have them: what cannot be read leaves the answer ungraded."""
    rng = random.Random(5)
    grader = build_declared(NumericConfig(type="numeric", reference="{{ item.ref }}", units={"km": 1000.0}))

    async def run() -> None:
        for _ in range(NUMBERS):
            reference = rng.choice([written(rng, longest=4), rng.uniform(-1e6, 1e6), 10.0 ** rng.randint(-300, 300)])
            answer = rng.choice([str(reference), written(rng, longest=4)])
            grade = await grader.grade(Submission.of_text(answer, {"ref": reference}))
            assert grade.reason if grade.score is None else grade.score in (0, 0.5, 1)
            if isinstance(reference, float) and answer == str(reference):
                assert grade.score == 1

    asyncio.run(run())


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_2", "rouge_l"])
def test_10_000_pairs_of_texts(metric: str) -> None:
    rng = random.Random(6)
    measure: Callable[[str, str], float] = measure_of(metric)
    pieces = [*WORDS, "the ", "cat ", "sat ", "on "]
    for _ in range(PAIRS // 6 + 1):
        assert 0 <= measure(written(rng, pieces), written(rng, pieces)) <= 1 + 1e-12
