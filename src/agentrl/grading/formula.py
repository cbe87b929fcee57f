"""The formula of a multi grader, computed: steps on a stack of floats, every one of them checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from agentrl.config.graders.formula import Formula

OPERATIONS: dict[str, Callable[..., float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": math.pow,  # of floats, so that 9^9^9^9 is an overflow at once, and (-1)^0.5 an error and not complex
    "negate": lambda a: -a,
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}


def evaluate(formula: Formula, scores: Mapping[str, float]) -> float:
    """The formula's value; finite.

    Raises:
        ValueError: a name without a score, a division by zero, an overflow, the root of a negative number.
    """
    stack: list[float] = []
    for step in formula.steps:
        if step.does == "number":
            value = step.number
        elif step.does == "name":
            if step.name not in scores:
                raise ValueError(f"there is no score '{step.name}'")
            value = scores[step.name]
        else:
            stack, values = stack[: -step.takes], stack[-step.takes :]
            try:
                value = float(OPERATIONS[step.does](*values))
            except (ArithmeticError, ValueError) as error:
                raise ValueError(f"{_shown(step.does, values)} has no value ({error})") from error
            if not math.isfinite(value):
                raise ValueError(f"{_shown(step.does, values)} is beyond every float")
        stack.append(value)
    return float(stack[0])


def _shown(does: str, values: list[float]) -> str:
    numbers = [f"{value:g}" for value in values]
    return f" {does} ".join(numbers) if does in "+-*/^" else f"{does}({', '.join(numbers)})"
