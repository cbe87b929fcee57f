"""The calculator computes, reads numbers as reports print them, and refuses everything else."""

from __future__ import annotations

import pytest

from examples.finqa.calculator import MAX_CHARS, calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("( 12,345 - 11,000 ) / 11,000", "0.12227"),
        ("482.3", "482.3"),
        ("27.25 - 0.05", "27.2"),
        ("1523.4", "1523.4"),
        ("$1,234,567.891 * 1", "1234567.891"),
        ("0.1 + 0.2", "0.3"),
        ("7%", "0.07"),
        ("9.2% - 9.6 %", "-0.004"),
        ("100 * 7%", "7"),
        ("2^3^2", "512"),
        ("2**-1", "0.5"),
        ("-2^2", "-4"),
        ("-(3 - +4)", "1"),
        ("8 × 2 ÷ 4 − 1", "3"),
        ("2 + 3 =", "5"),
        ("007 + .5", "7.5"),
        ("1e3", "1000"),
        ("-0.000001", "0"),
        ("10^18", "1000000000000000000"),
        ("1/3", "0.33333"),
    ],
)
def test_arithmetic(expression: str, result: str) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1/0", "division by zero"),
        ("0^-1", "division by zero"),
        ("10^19", "result too large"),
        ("1e400", "result too large"),
        ("10^99*10^99*10^99*10^99", "result too large"),
        ("9" * MAX_CHARS, "result too large"),
        ("2**101", "exponent over 100"),
        ("2^2^2^2^2", "exponent over 100"),
        ("(-8)^0.5", "negative number has no fractional power"),
        ("1" * (MAX_CHARS + 1), "longer than 200 characters"),
        ("", "empty expression"),
        ("  = ", "empty expression"),
        ("5 % 3", "% must follow a number"),
        ("(1+2)%", "% must follow a number"),
        ("1,23 + 1", "cannot read"),
        ("((((", "cannot read"),
        ("(" * 99 + ")" * 99, "cannot read"),
        ("__import__('os').system('x')", "cannot read"),
        ("subtract(3, 2)", "cannot read"),
        ("True + 1", "cannot read"),
        ("2j", "cannot read"),
        ("'a' * 9", "cannot read"),
        ("5 // 2", "cannot read"),
        ("1 if 1 else 2", "cannot read"),
        ("[1][0]", "cannot read"),
        ("x := 1", "cannot read"),
        ("\x00", "cannot read"),
    ],
)
def test_everything_else_is_refused_with_a_short_reason(expression: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        calculate(expression)
    assert len(str(caught.value)) < 80
