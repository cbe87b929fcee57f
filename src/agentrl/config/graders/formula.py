"""Formulas over named scores, such as `0.7*correct + 0.3*style` or `correct * min(1, 2 - calls/10)`: parsed, never run.

There is nothing but numbers, names, + - * / ^ (or **), parentheses and the functions of `FUNCTIONS`. `^` is power: it
binds tighter than a minus before it and groups from the right, so -2^2 is -4 and 2^3^2 is 512; `log` is to base e.

A parsed formula is a list of steps for a stack machine, which agentrl.grading.formula runs on scores and
`formula_facts.py` on weights and ranges: nothing recurses, however long the formula.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from agentrl.config.section import did_you_mean

MAX_CHARS = 4_000
MAX_DEPTH = 50
FUNCTIONS = {"abs": 1, "ceil": 1, "exp": 1, "floor": 1, "log": 1, "sqrt": 1, "max": None, "min": None}
"""How many arguments each takes; None is two or more."""
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|[-+*/^(),]))",
    re.ASCII,
)
NAME = re.compile(r"[^\W\d]\w*", re.ASCII)
"""What a formula can call a part."""


class Step(NamedTuple):
    """One step of the stack machine."""

    does: str
    """"number" or "name" puts a value on the stack; an operator, "negate" or a function replaces `takes` of them."""
    takes: int = 0
    number: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class Formula:
    """A parsed formula."""

    text: str
    steps: tuple[Step, ...]

    @property
    def names(self) -> Counter[str]:
        """The parts it names, with how often it does."""
        return Counter(step.name for step in self.steps if step.does == "name")


@lru_cache(maxsize=256)
def parse_formula(text: str) -> Formula:
    """Read a formula.

    Raises:
        ValueError: what was found where, and what is allowed.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"found {len(text):,} characters; allowed: {MAX_CHARS:,}")
    return Formula(text, tuple(_Parser(text).formula()))


class _Parser:
    """Recursive descent, one method a level of precedence; each appends the steps of what it read."""

    def __init__(self, text: str) -> None:
        self._text, self._steps, self._depth = text, [], 0
        self._tokens = list(_tokens(text))
        self._at = 0

    _steps: list[Step]

    def formula(self) -> list[Step]:
        self._sum()
        if self._next:
            raise self._unexpected("an operator or the end")
        return self._steps

    def _sum(self) -> None:
        self._product()
        while self._next in ("+", "-"):
            sign = self._take()
            self._product()
            self._steps.append(Step(sign, 2))

    def _product(self) -> None:
        self._signed()
        while self._next in ("*", "/"):
            sign = self._take()
            self._signed()
            self._steps.append(Step(sign, 2))

    def _signed(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"found more than {MAX_DEPTH} levels of parentheses, signs and powers; allowed: fewer")
        if self._next in ("+", "-"):
            sign = self._take()
            self._signed()
            if sign == "-":
                self._steps.append(Step("negate", 1))
        else:
            self._operand()
            if self._next in ("^", "**"):
                self._take()
                self._signed()
                self._steps.append(Step("^", 2))
        self._depth -= 1

    def _operand(self) -> None:
        token = self._next
        if token == "(":
            self._take()
            self._sum()
            self._expect(")")
        elif NAME.match(token):
            self._take()
            if self._next == "(":
                self._call(token)
            else:
                self._steps.append(Step("name", name=token))
        elif token and token not in "+-*/^**(),":
            number = float(self._take())
            if not math.isfinite(number):
                raise ValueError(f"found the number {token:.40}, which is beyond every float")
            self._steps.append(Step("number", number=number))
        else:
            raise self._unexpected("a number, a name, a function or '('")

    def _call(self, function: str) -> None:
        if function not in FUNCTIONS:
            hint = did_you_mean(function, FUNCTIONS)
            raise ValueError(f"found the function '{function}'; allowed: {', '.join(FUNCTIONS)}{hint}")
        self._take()
        given = 0
        while given == 0 or self._next == ",":
            if given:
                self._take()
            self._sum()
            given += 1
        self._expect(")")
        wanted = FUNCTIONS[function]
        if given != wanted and not (wanted is None and given > 1):
            raise ValueError(f"found {function} of {given}; allowed: {wanted or 'two or more'}")
        self._steps.append(Step(function, given))

    @property
    def _next(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][0]

    def _expect(self, sign: str) -> None:
        if self._next != sign:
            raise self._unexpected(f"'{sign}'")
        self._take()

    def _unexpected(self, allowed: str) -> ValueError:
        if self._at == len(self._tokens):
            return ValueError(f"found the end of the formula; allowed there: {allowed}")
        token, position = self._tokens[self._at]
        return ValueError(f"found '{token:.40}' at character {position + 1}; allowed there: {allowed}")


def _tokens(text: str) -> list[tuple[str, int]]:
    """Each token with its position."""
    tokens, end = [], 0
    while text[end:].strip():
        match = _TOKEN.match(text, end)
        if match is None:
            start = end + len(text[end:]) - len(text[end:].lstrip())
            found = f"found '{text[start : start + 12]}' at character {start + 1}"
            raise ValueError(f"{found}; allowed: numbers, names, + - * / ^ ( ) , and {', '.join(FUNCTIONS)}")
        tokens.append((match[match.lastgroup or 0], match.start(match.lastgroup or 0)))
        end = match.end()
    return tokens
