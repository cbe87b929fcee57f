"""Text that models and tools wrote, made readable: nothing in it is hidden, found words are marked, long ones folded.

Escaping is the templates' own doing, see `ui/templating.py`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from agentrl.printable import visible

FOLD_CHARS = 1500
"""Shown of a text at once; the rest is unfolded."""
MAX_CHARS = 100_000
"""Of one text on a page; the file has the rest."""


@dataclass(frozen=True)
class Piece:
    """Part of a text, ready to be shown."""

    text: str
    is_hit: bool = False
    """It is what was looked for."""


@dataclass(frozen=True)
class Passage:
    """A text on a page: its head, and what is folded away."""

    head: tuple[Piece, ...]
    rest: tuple[Piece, ...] = ()
    folded: int = 0
    """Characters in `rest`."""
    left_out: int = 0
    """Characters that only the file has."""
    has_hit_below: bool = False
    """What was looked for is in the rest."""

    @property
    def is_empty(self) -> bool:
        return not self.head


def passage(text: str, needle: str = "", *, fold: int = FOLD_CHARS) -> Passage:
    """The text, folded where it is long: at the end of a line if one is near.

    Args:
        needle: marked wherever it stands, whatever its case.
        fold: characters of the head.
    """
    shown = text[:MAX_CHARS]
    cut = len(shown)
    if cut > fold + fold // 4:  # a few more characters are no reason to fold
        line_end = shown.rfind("\n", fold // 2, fold)
        cut = line_end + 1 if line_end > 0 else fold
    rest = pieces(shown[cut:], needle)
    return Passage(
        head=pieces(shown[:cut], needle),
        rest=rest,
        folded=len(shown) - cut,
        left_out=len(text) - len(shown),
        has_hit_below=any(piece.is_hit for piece in rest),
    )


def pieces(text: str, needle: str = "") -> tuple[Piece, ...]:
    """The text in parts, those that are the needle marked."""
    if not text:
        return ()
    if not needle:
        return (Piece(visible(text)),)
    found, done = [], 0
    for match in re.finditer(re.escape(needle), text, re.IGNORECASE):
        if match.start() > done:
            found.append(Piece(visible(text[done : match.start()])))
        found.append(Piece(visible(match[0]), is_hit=True))
        done = match.end()
    return (*found, Piece(visible(text[done:]))) if done < len(text) else tuple(found)


def excerpt(text: str, needle: str, *, around: int = 60) -> tuple[Piece, ...]:
    """What stands around the first needle, on one line; nothing where there is none."""
    match = re.search(re.escape(needle), text, re.IGNORECASE) if needle else None
    if match is None:
        return ()
    start, end = max(0, match.start() - around), min(len(text), match.end() + around)
    line = " ".join(text[start:end].split())
    return pieces(f"{'…' if start else ''}{line}{'…' if end < len(text) else ''}", needle)


@dataclass(frozen=True)
class Argument:
    """One argument of a call."""

    name: str
    value: Passage
    is_text: bool
    """Written as it is; everything else is JSON."""


def arguments(written: str, needle: str = "") -> tuple[Argument, ...] | None:
    """The arguments of a call by name; None where what was written is no JSON object."""
    try:
        parsed = json.loads(written)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    return tuple(
        Argument(visible(str(name)), passage(_as_written(value), needle), isinstance(value, str))
        for name, value in parsed.items()
    )


def _as_written(value: object) -> str:
    """Text without quotes, so that its lines are lines; with them where it would be read as a number or a list."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return value
    return json.dumps(value, ensure_ascii=False, indent=1)
