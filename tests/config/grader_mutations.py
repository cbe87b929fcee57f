"""Declarations of graders with something wrong in them, for tests: always the same ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

CHECK = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.reference_answer }}",
    "operation": "eq",
}
"""Nothing is wrong with this one."""
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    10**400,
    "",
    "{{ item.x }}",
    "{{",
    "${HOME}",
    "\ud800",
    [],
    {},
    [1, "a"],
    {"a": 1},
    [[[]]],
    {"type": "numeric"},
    {"grader": {}},
    "http://[::",
    "http://a.b:99999/",
)
KEYS = ("type", "grader", "grading", "name", "pass_threshold", "max_score", "holdout", "judge", "", "a.b", "[0]")
GOOD: tuple[dict[str, Any], ...] = (
    {"type": "string_check", "input": "{{sample.output_text}}", "reference": "{{item.a}}", "operation": "eq"},
    {"type": "numeric", "reference": "{{ item.a }}"},
    {"type": "multi", "graders": {"a": {"type": "numeric"}, "b": {"type": "numeric"}}, "calculate_output": "a + b"},
    {"type": "json_schema", "json_schema": {"type": "object"}},
    {"type": "text_similarity", "input": "{{ sample.output_text }}", "reference": "b", "evaluation_metric": "bleu"},
    {"type": "policy_check", "red_flags": [{"name": "x", "pattern": "a+"}]},
    {"type": "tool_use", "required": ["a"]},
    {"type": "efficiency", "tokens": {"free": 1, "limit": 2}},
    {"type": "python", "source": "def grade(sample, item):\n    return 1"},
    {"type": "endpoint", "url": "http://127.0.0.1:1/x", "headers": {"a": "b"}},
    {"type": "score_model", "model": "m", "input": [{"role": "user", "content": {"type": "input_text", "text": "x"}}]},
    {"type": "rubric", "model": "m", "criteria": [{"id": "a", "text": "t"}], "judge": {"delimit": True}},
    {"type": "label_model", "model": "m", "input": [{"role": "user", "content": "x"}], "labels": ["a", "b"]},
    {"type": "reward_model", "path": "x"},
)  # fmt: skip


def mutated(n: int, seed: int = 17, among: tuple[dict[str, Any], ...] = GOOD) -> Iterator[Any]:
    """`n` declarations, most of them wrong somewhere."""
    rng = random.Random(seed)

    def change(value: Any) -> Any:
        if rng.random() < 0.12:
            return rng.choice(ODD)
        if isinstance(value, dict):
            changed = {key: change(each) if rng.random() < 0.5 else each for key, each in value.items()}
            if rng.random() < 0.2:
                changed[rng.choice(KEYS)] = rng.choice(ODD)
            if changed and rng.random() < 0.1:
                changed.pop(rng.choice(list(changed)))
            return changed
        if isinstance(value, list):
            return [change(each) if rng.random() < 0.5 else each for each in value]
        return value

    for _ in range(n):
        yield change(rng.choice(among))
