"""What every section of a config is: a frozen model whose unknown keys, NaNs and broken rules are errors.

A section states the rules between its own keys in `problems`; rules between sections are in `run.py`. `loading.py`
turns what pydantic found into messages with a file and a line.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

PathParts = tuple[str | int, ...]
"""Where a value stands: ("tools", "endpoints", 0, "name") is written `tools.endpoints[0].name`."""


class Problem(NamedTuple):
    """A broken rule, at a path relative to the section that states the rule."""

    path: PathParts
    message: str


class BrokenRules(ValueError):
    """All broken rules of one section, carried through pydantic to the loader."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{dotted(path)}: {text}" if path else text for path, text in self.problems))


class Section(BaseModel):
    """A mapping in the YAML. Strict: `"3"` is no number and `3.0` no count, so that a typo is not a value."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def problems(self) -> Iterator[Problem]:
        """The rules between this section's keys that do not hold."""
        yield from ()

    @model_validator(mode="after")
    def _rules_hold(self) -> Section:
        if found := tuple(self.problems()):
            raise BrokenRules(found)
        return self


def _path_as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, PurePath) else value


FilePath = Annotated[str, BeforeValidator(_path_as_text), Field(min_length=1)]
"""A path as text; a relative one starts at the current directory, not at the config file."""
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
"""Part of a directory name: letters, digits, dot, dash and underscore."""
NonEmpty = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
ALLOW_LISTS = Field(strict=False)
"""For tuple fields, which YAML writes as lists; the elements stay strict."""


def dotted(path: PathParts) -> str:
    """The path as messages and `--set` write it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'steps'?`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return f"; did you mean '{near[0]}'?" if near else ""


def repeated(names: Iterable[str]) -> list[int]:
    """Positions of the names that stood earlier in the list already."""
    listed = list(names)
    return [index for index, name in enumerate(listed) if name in listed[:index]]
