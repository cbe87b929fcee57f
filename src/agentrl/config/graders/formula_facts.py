"""What a formula says before there is any score: the weights of a weighted sum, and between what its values lie."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

from agentrl.config.graders.formula import Formula

Range = tuple[float, float]
MONOTONE: dict[str, Callable[[float], float]] = {
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "sqrt": math.sqrt,
}
AT_CORNERS: dict[str, Callable[[float, float], float]] = {"*": operator.mul, "/": operator.truediv, "^": math.pow}
"""Operations that are least and greatest where both operands are."""


def weights_of(formula: Formula) -> dict[str, float] | None:
    """Of each part where the formula is a weighted sum of parts; None where it is anything else.

    The steps run on linear forms: {part: weight}, with the constant under "".
    """
    stack: list[dict[str, float]] = []
    for step in formula.steps:
        values = [stack.pop() for _ in range(step.takes)][::-1]
        constants = [value.get("", 0.0) for value in values if not value.keys() - {""}]
        match step.does:
            case "number":
                found = {"": step.number}
            case "name":
                found = {step.name: 1.0}
            case "+" | "-":
                sign = 1.0 if step.does == "+" else -1.0
                names = [*values[0], *(name for name in values[1] if name not in values[0])]
                found = {name: values[0].get(name, 0.0) + sign * values[1].get(name, 0.0) for name in names}
            case "negate":
                found = {name: -weight for name, weight in values[0].items()}
            case "*" if constants:
                form = values[0] if values[0].keys() - {""} else values[1]
                found = {name: weight * constants[0] for name, weight in form.items()}
                if len(constants) == 2:
                    found = {"": constants[0] * constants[1]}
            case "/" if not values[1].keys() - {""} and values[1].get("", 0.0):
                found = {name: weight / values[1][""] for name, weight in values[0].items()}
            case _:
                return None
        stack.append(found)
    (form,) = stack
    is_sum = form.pop("", 0.0) == 0 and all(math.isfinite(weight) for weight in form.values())
    return form if is_sum else None


def range_of(formula: Formula, ranges: Mapping[str, Range]) -> Range | None:
    """The least and the greatest value, given those of each part, by interval arithmetic (Moore 1966).

    None where that is not exact: a part that is named twice may not be at its best in both places.
    """
    if any(count > 1 for count in formula.names.values()):
        return None
    stack: list[Range] = []
    try:
        for step in formula.steps:
            values = [stack.pop() for _ in range(step.takes)][::-1]
            if step.does == "number":
                found = (step.number, step.number)
            elif step.does == "name":
                found = ranges[step.name]
            else:
                found = _range_of_step(step.does, values)
            if not all(map(math.isfinite, found)):
                return None
            stack.append(found)
    except (ArithmeticError, ValueError, KeyError):
        return None
    return stack[0]


def _range_of_step(does: str, values: list[Range]) -> Range:
    (low, high), *others = values
    if does in MONOTONE:
        return float(MONOTONE[does](low)), float(MONOTONE[does](high))
    if does in ("min", "max"):
        pick = min if does == "min" else max
        return pick(each[0] for each in values), pick(each[1] for each in values)
    if does == "negate":
        return -high, -low
    if does == "abs":
        return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
    ((least, most),) = others
    if does == "+":
        return low + least, high + most
    if does == "-":
        return low - most, high - least
    if does == "/" and least <= 0 <= most:
        raise ZeroDivisionError
    if does == "^" and (low < 0 or (low == 0 and least < 0)):
        raise ValueError("the power of a negative number")
    corners = [AT_CORNERS[does](a, b) for a in (low, high) for b in (least, most)]
    return min(corners), max(corners)
