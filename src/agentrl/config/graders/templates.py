"""The syntax of templates: `{{ item.reference }}`, `{{sample.output_tools[0].function.name}}`, `{{ item['a key'] }}`.

Two namespaces: `item`, the row of the data set, and `sample`, what the model answered. agentrl.grading.templates fills
them in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agentrl.config.section import PathParts, Problem, did_you_mean

NAMESPACES = ("item", "sample")
SAMPLE = ("output_text", "output_json", "output_tools", "choices", "output_reasoning_summary", "output_audio", "turns")
"""What a sample holds; `turns` is ours, `output_audio` is never there."""
MAX_VARIABLES = 200
"""Of a declaration: each may be filled in with a megabyte."""
_EITHER = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}|\{\{", re.DOTALL)
_STEP = re.compile(r"\.([^\s.\[\]{}'\"]+)|\[(?:(\d{1,9})|'([^']*)'|\"([^\"]*)\")\]")
ALLOWED = "{{ item.KEY }} or {{ sample.output_text }}, with .KEY, [0] or ['a key'] for what lies deeper"


@dataclass(frozen=True)
class Variable:
    """What stands between double braces."""

    path: PathParts
    """("sample", "output_tools", 0, "function", "name")"""

    def __str__(self) -> str:
        text = str(self.path[0])
        for part in self.path[1:]:
            is_plain = isinstance(part, str) and re.fullmatch(r"[^\s.\[\]{}'\"]+", part)
            text += f".{part}" if is_plain else f"[{part!r}]"
        return text


@lru_cache(maxsize=4096)
def parse_template(text: str) -> tuple[str | Variable, ...]:
    """The plain pieces and the variables of a template, in their order.

    Raises:
        ValueError: what was found, what is allowed.
    """
    pieces: list[str | Variable] = []
    end = 0
    for match in _EITHER.finditer(text):
        if match[1] is None:
            raise ValueError(f"found '{{{{' without its '}}}}' ({text[match.start() :]:.40}); allowed: {ALLOWED}")
        pieces += [text[end : match.start()], _variable(match[1].strip())]
        end = match.end()
    return tuple(piece for piece in (*pieces, text[end:]) if piece != "")


def template_paths(text: str) -> tuple[PathParts, ...]:
    """The variables that a template names.

    Raises:
        ValueError: as `parse_template`.
    """
    return tuple(piece.path for piece in parse_template(text) if isinstance(piece, Variable))


def template_problems(templates: Iterable[tuple[PathParts, str]]) -> Iterator[Problem]:
    """What is wrong with the templates of a declaration, each given with its place."""
    variables = 0
    for path, text in templates:
        try:
            variables += len(template_paths(text))
        except ValueError as error:
            yield Problem(path, str(error))
        if variables > MAX_VARIABLES:
            yield Problem(path, f"found more than {MAX_VARIABLES} variables in all; allowed: fewer")
            return


def texts_in(value: Any, path: PathParts = ()) -> Iterator[tuple[PathParts, str]]:
    """Every text inside lists and mappings, with its place: a judge's messages hold templates at any depth."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_in(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from texts_in(inner, (*path, index))


def _variable(inside: str) -> Variable:
    shown = f"found '{{{{ {inside:.60} }}}}'"
    name = re.match(r"\w*", inside)[0]  # type: ignore[index]  # it always matches
    if name not in NAMESPACES:
        hint = did_you_mean(name, NAMESPACES)
        raise ValueError(f"{shown}; allowed: {ALLOWED}{hint}")
    path: list[str | int] = [name]
    position = len(name)
    while position < len(inside):
        step = _STEP.match(inside, position)
        if step is None:
            raise ValueError(f"{shown}; allowed: {ALLOWED}")
        key, index, *quoted = step.groups()
        path.append(int(index) if index is not None else key or next((q for q in quoted if q is not None), ""))
        position = step.end()
    if name == "sample" and len(path) > 1:
        if path[1] not in SAMPLE:
            hint = did_you_mean(str(path[1]), SAMPLE)
            raise ValueError(f"{shown}; a sample has {', '.join(SAMPLE)}{hint}")
        if path[1] == "output_text" and len(path) > 2:
            raise ValueError(f"{shown}; output_text is text and has no parts; output_json has those of a JSON answer")
    return Variable(tuple(path))
