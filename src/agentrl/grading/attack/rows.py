"""What a row of the data set calls its answer, and how answers to it are written."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.config import GradingConfig
from agentrl.config.graders.templates import template_paths
from agentrl.errors import ConfigError
from agentrl.reference_key import names_reference
from agentrl.types import Task

FIRST_KEYS = ("reference_answer", "answer")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?|(?<![\w.])[-+]?\.\d+")
CLOSE = 0.05
"""Numbers this near, relative, may be one number to a grader: two digits of rounding."""
BARE = "{answer}"


@dataclass(frozen=True)
class Row:
    """A task and its right answer."""

    task: Task = field(repr=False)
    key: str
    """Of the item, where the answer stands."""
    text: str
    """The right answer, as it is said."""
    value: float | None
    """The number that it is; None for any other text."""
    is_percent: bool
    """It is a share: the number is stored as a fraction, or printed with a percent sign."""
    others: tuple[str, ...] = field(repr=False)
    """Right answers of other rows, all different from this one."""
    form: str = BARE
    """How an answer is written down, with `{answer}` in it."""

    @property
    def question(self) -> str:
        content = self.task.messages[-1].get("content") if self.task.messages else ""
        return content if isinstance(content, str) else json.dumps(content)

    def say(self, answer: str) -> str:
        """An answer in the form that the grader reads."""
        return self.form.replace(BARE, answer)

    def holds_answer(self, text: str) -> bool:
        """Whether a text has the right answer in it, if only by chance: then it proves nothing that it pays."""
        if self.value is None:
            return self.text.casefold() in text.casefold()
        return any(self._is_answer(number) for number in numbers_in(text))

    def _is_answer(self, number: float) -> bool:
        assert self.value is not None
        return any(
            math.isclose(number, self.value * scale, rel_tol=CLOSE, abs_tol=1e-5) for scale in (1.0, -1.0, 100.0, 0.01)
        )


def keys_compared(config: GradingConfig) -> tuple[str, ...]:
    """Keys of the item that the graders' templates read as the reference, or read at all, in this order."""
    found: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for _, grader in config.declared:
        for place, template in grader.templates():
            for namespace, *path in template_paths(template):
                if namespace == "item" and len(path) == 1:
                    found["reference" in place][str(path[0])] = None
    return tuple(dict.fromkeys([*found[True], *found[False]]))


def rows_of(
    tasks: Sequence[Task],
    *,
    n: int,
    seed: int,
    key: str | None = None,
    compared: Sequence[str] = (),
    form: str = BARE,
) -> tuple[Row, ...]:
    """A seeded sample of the tasks whose answer is known.

    Args:
        key: where the item holds the answer; None takes what looks like it.
        compared: keys that the grader reads; one of them is taken where nothing looks like an answer.
        form: how an answer is written down.

    Raises:
        ConfigError: no task has such a key, or the form has no `{answer}`.
    """
    if BARE not in form:
        raise ConfigError(f"--form: found {form!r:.80}; allowed: a text with {BARE} in it")
    named = [(task, key or reference_key(task.item, compared)) for task in tasks]
    known = [(task, name) for task, name in named if name and _text_of(task.item, name)]
    if not known:
        keys = sorted({name for task in tasks for name in task.item})
        wanted = f"no row has an answer under {key!r}" if key else "no key of the rows looks like the right answer"
        raise ConfigError(f"{wanted}; name it with --reference, keys are {', '.join(keys) or 'none'}")
    chosen = random.Random(seed).sample(known, min(n, len(known)))
    texts = list(dict.fromkeys(_text_of(task.item, name) for task, name in known))
    random.Random(seed + 1).shuffle(texts)
    rows = [_row(task, name, form) for task, name in chosen]
    return tuple(_with_others(row, texts) for row in rows)


def reference_key(item: dict[str, Any], compared: Sequence[str] = ()) -> str | None:
    """The key that looks like the right answer, else the first of those that the grader compares."""
    found = [key for key in item if _text_of(item, key)]
    alike = [key for key in (*FIRST_KEYS, *compared, *found) if names_reference(key)]
    return next((key for key in (*alike, *compared) if key in found), None)


def plain(value: float) -> str:
    """A number in digits: no exponent, no separators, at most fifteen significant digits."""
    text = f"{value:.15g}"
    return text if "e" not in text else f"{value:.10f}".rstrip("0").rstrip(".")


def number_of(text: str) -> float | None:
    """The number that a text is, with a currency sign, separators or a percent sign; None for any other text."""
    compact = text.strip().replace(",", "").replace("$", "")
    try:
        value = float(compact.removesuffix("%")) / (100 if compact.endswith("%") else 1)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers_in(text: str) -> list[float]:
    return [float(match.replace(",", "")) for match in NUMBER.findall(text[:20_000])]


def _text_of(item: dict[str, Any], key: str) -> str:
    """The answer under a key as text; empty where there is none."""
    value = item.get(key)
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return plain(value) if math.isfinite(value) else ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row(task: Task, key: str, form: str) -> Row:
    text = _text_of(task.item, key)
    value = number_of(text)
    printed = [each for name, each in task.item.items() if names_reference(name) and isinstance(each, str)]
    has_sign = any(each.strip().endswith("%") for each in (*printed, text))
    is_fraction = value is not None and 0 < abs(value) < 1 and value != round(value, 2)
    return Row(task, key, text, value, has_sign or is_fraction, (), form)


def _with_others(row: Row, texts: Sequence[str]) -> Row:
    others = tuple(text for text in texts if not row.holds_answer(text) and text.casefold() not in row.text.casefold())
    return Row(row.task, row.key, row.text, row.value, row.is_percent, others, row.form)
