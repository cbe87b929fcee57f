"""Safe arithmetic for the `calculate` tool: the expression is parsed and walked, never evaluated as code."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable

MAX_CHARS = 200
MAX_EXPONENT = 100
MAX_RESULT = 1e18
DECIMALS = 5  # FinQA's executed answers are rounded so
ALLOWED = "use numbers and + - * / ^ ( ) only"

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SPELLINGS = str.maketrans({"−": "-", "–": "-", "×": "*", "÷": "/", "$": " ", "\n": " ", "\t": " "})


def calculate(expression: str) -> str:
    """The value of an arithmetic expression, rounded to five decimals: `( 1,523 - 7% ) / 2` -> "761.465".

    `^` and `**` are powers, "12,345" is one number, "$" is skipped, "7%" is 0.07.

    Raises:
        ValueError: with a short reason that the model can act on.
    """
    if len(expression) > MAX_CHARS:
        raise ValueError(f"expression longer than {MAX_CHARS} characters")
    text = _python_spelling(expression)
    if not text:
        raise ValueError("empty expression")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"cannot read the expression; {ALLOWED}") from None
    try:
        value = _walk(tree.body)
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except OverflowError:
        raise ValueError("result too large") from None
    if not math.isfinite(value) or abs(value) > MAX_RESULT:
        raise ValueError("result too large")
    return format_result(value)


def format_result(value: float) -> str:
    """Five decimals at most, no trailing zeros, no thousands separators: "0.05977", "27.2", "1523"."""
    text = f"{round(value, DECIMALS):.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _python_spelling(expression: str) -> str:
    text = expression.translate(_SPELLINGS).strip().removesuffix("=").strip()
    text = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda match: match[0].replace(",", ""), text)
    text = re.sub(r"(?<![\w.])0+(?=\d)", "", text)
    if re.search(r"%\s*[\w.(]|[^\d.\s]\s*%|^%", text):
        raise ValueError("% must follow a number, as in 7%")
    text = re.sub(r"(\d+\.?\d*|\.\d+)\s*%", r"(\1/100)", text)
    return text.replace("^", "**")


def _walk(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _walk(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _walk(node.left), _walk(node.right)
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
        if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](left, right)
    raise ValueError(f"cannot read the expression; {ALLOWED}")


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"exponent over {MAX_EXPONENT}")
    if base < 0 and not exponent.is_integer():
        raise ValueError("a negative number has no fractional power")
    return float(base**exponent)
