"""Formulas mean what they say, and none of them can hang, crash or give a score that is no number."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.config.graders.formula import parse_formula
from agentrl.config.graders.formula_facts import range_of, weights_of
from agentrl.grading.formula import evaluate

SCORES = {"a": 0.5, "b": 0.25, "c": 1.0, "zero": 0.0, "min": 7.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("16 / 4 / 2", 2),
        ("2^3^2", 512),
        ("2**3**2", 512),
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("2^-1", 0.5),
        ("2*-3", -6),
        ("--2", 2),
        ("+a", 0.5),
        ("2^2*3", 12),
        ("-a^2*4", -1),
        ("1e-3 + .5 + 2.", 2.501),
        ("min(a, b, c) + max(a, b)", 0.75),
        ("abs(b - a)", 0.25),
        ("floor(2.7) + ceil(2.1) + floor(-0.5)", 4),
        ("exp(0) + log(1) + sqrt(4)", 3),
        ("log(exp(2))", 2),
        ("min + min(1, 2)", 8),
        ("2*a*c / max(a + c, 0.0001)", 2 / 3),
        ("(c * (0.7*a + 0.3*b))", 0.425),
        ("zero^0", 1),
    ],
)
def test_values(text: str, value: float) -> None:
    assert evaluate(parse_formula(text), SCORES) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "found the end of the formula"),
        ("a +", "found the end of the formula; allowed there: a number"),
        ("a b", r"found 'b' at character 3; allowed there: an operator"),
        ("(a", r"allowed there: '\)'"),
        ("a)", r"found '\)' at character 2"),
        ("min(a)", "found min of 1; allowed: two or more"),
        ("sqrt(a, b)", "found sqrt of 2; allowed: 1"),
        ("min()", r"found '\)'"),
        ("mean(a, b)", "found the function 'mean'; allowed: abs"),
        ("sqr(a)", "did you mean 'sqrt'"),
        ("a.b", r"found '.b' at character 2"),
        ("a[0]", r"found '\[0\]'"),
        ("a < b", "found '< b'"),
        ("a if b else c", "found 'if'"),
        ("'a'", "found ''a''"),
        ("__import__('os')", "found"),
        ("lambda: 1", "found"),
        ("a // b", "found '/'"),
        ("a % b", "found '% b'"),
        ("1_000", "found '1_000'"),
        ("1.2.3", "found '1.2.3'"),
        ("2a", "found '2a'"),
        ("1e999", "beyond every float"),
        ("a = 1", "found '= 1'"),
        ("(" * 60 + "a" + ")" * 60, "more than 50 levels"),
        ("-" * 60 + "a", "more than 50 levels"),
        ("a^" * 60 + "a", "more than 50 levels"),
        ("a + " * 1001 + "a", "found 4,005 characters"),
    ],
)
def test_what_is_no_formula_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_formula(text)


@pytest.mark.parametrize(
    "text",
    ["1 / zero", "zero / zero", "zero ^ -1", "(-1) ^ 0.5", "sqrt(-a)", "log(0)", "log(-1)", "exp(1000)", "9**9**9**9",
     "1e308 * 10", "1e308 + 1e308", "-1e308 - 1e308", "missing + 1", "10 ^ 400", "1e308 * 10 * zero"],
)  # fmt: skip
def test_what_has_no_value_is_an_error_and_never_a_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"has no value|beyond every float|no score 'missing'"):
        evaluate(parse_formula(text), SCORES)


def test_a_sum_of_a_thousand_terms_is_no_depth() -> None:
    assert evaluate(parse_formula("+".join(["a"] * 1000)), SCORES) == 500


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("0.7*a + 0.3*b", {"a": 0.7, "b": 0.3}),
        ("a", {"a": 1}),
        ("(a + b + c) / 4", {"a": 0.25, "b": 0.25, "c": 0.25}),
        ("2 * (a - b/2) * 3", {"a": 6, "b": -3}),
        ("-a + 2*a + 0*b", {"a": 1, "b": 0}),
        ("a + 1 - 1", {"a": 1}),
        ("a + 1", None),
        ("a * b", None),
        ("min(a, b)", None),
        ("a / b", None),
        ("a / 0", None),
        ("a ^ 1", None),
        ("abs(a)", None),
    ],
)
def test_a_weighted_sum_is_told_from_other_formulas(text: str, weights: dict[str, float] | None) -> None:
    found = weights_of(parse_formula(text))
    assert found == (None if weights is None else pytest.approx(weights))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5*a + 2*b", (0, 2.5)),
        ("c * (0.5*a + 0.5*b)", (0, 1)),
        ("1 - a", (0, 1)),
        ("a / (1 + b)", (0, 1)),
        ("a / b", None),
        ("min(a, 0.3) - max(b, 0.5)", (-1, -0.2)),
        ("sqrt(a)", (0, 1)),
        ("log(a)", None),
        ("(a - 0.5)^2", None),
        ("a * (1 - a)", None),
        ("abs(a - 0.5)", (0, 0.5)),
        ("wide", (-2, 3)),
        ("wide * -2", (-6, 4)),
        ("wide * b", (-2, 3)),
    ],
)
def test_the_range_of_a_formula(text: str, expected: tuple[float, float] | None) -> None:
    ranges = {**dict.fromkeys("abc", (0.0, 1.0)), "wide": (-2.0, 3.0)}
    found = range_of(parse_formula(text), ranges)
    assert found == (None if expected is None else pytest.approx(expected))


def _written(draw: Any) -> tuple[str, str]:
    """A formula and the same in Python's syntax."""
    names = ["a", "b", "c", "zero", "1", "2.5", "0.1"]
    text = draw(st.sampled_from(names))
    python = f"({text})" if text in SCORES else f"({float(text)})"
    for _ in range(draw(st.integers(0, 6))):
        operator = draw(st.sampled_from(["+", "-", "*", "/", "^"]))
        other = draw(st.sampled_from(names))
        text, python = f"({text}) {operator} {other}", f"(({python}) {operator.replace('^', '**')} {other})"
    return text, python


@given(st.data())
def test_values_are_those_of_arithmetic(data: st.DataObject) -> None:
    text, python = _written(data.draw)
    try:
        expected = eval(python, {"__builtins__": {}}, dict(SCORES))  # a text that this test made
    except ArithmeticError:
        expected = math.nan
    try:
        found = evaluate(parse_formula(text), SCORES)
    except ValueError:
        assert isinstance(expected, complex) or not math.isfinite(expected)
    else:
        assert found == pytest.approx(expected, rel=1e-9)


@given(st.data())
def test_values_lie_in_the_range(data: st.DataObject) -> None:
    text, _ = _written(data.draw)
    formula = parse_formula(text)
    ranges = dict.fromkeys(("a", "b", "c"), (0.0, 1.0)) | {"zero": (0.0, 0.0)}
    scores = {name: data.draw(st.floats(low, high)) for name, (low, high) in ranges.items()}
    found = range_of(formula, ranges)
    if found is not None:
        with suppress(ValueError):
            assert found[0] - 1e-9 <= evaluate(formula, scores) <= found[1] + 1e-9 * max(1, abs(found[1]))
