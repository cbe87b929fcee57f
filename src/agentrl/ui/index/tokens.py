"""How a text is cut into tokens, and what a search has to find among them.

Texts and searches are casefolded, then cut: a run of word characters, or of others that are not blank, with the blank
behind it; any further blank by itself. So `net income, 7.3` is `net |income|, |7|.|3`. Nothing is lost, and whether
there is a cut between two characters depends on these two alone: the cuts of a search lie where the text's lie, and a
text contains the search just where the tokens follow one another, the first and the last one perhaps in part.

Runs of more than LONGEST characters (keys, base64, languages that put no blanks) would be a vocabulary of their own.
They are cut into characters, each a token with MARK before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

LONGEST = 32
MARK = "\ud800"
"""No character: neither a text nor a search holds it."""
BETWEEN = b"\xff"
"""Stands before and after every token of a vocabulary; UTF-8 has no such byte."""

_TOKEN = re.compile(r"\w+ ?|[^\w\s]+ ?|\s")


def fold(text: str) -> str:
    """The form in which texts are compared: without case."""
    return text.casefold()


def packed(token: str) -> bytes:
    """As it stands in a vocabulary."""
    return token.encode("utf-8", "surrogatepass")


def tokens(folded: str) -> list[str]:
    """The tokens of a text, in order."""
    found: list[str] = _TOKEN.findall(folded)
    if max(map(len, found), default=0) > LONGEST:
        return [piece for token in found for piece in (_characters(token) if _is_long(token) else [token])]
    return found


def _is_long(token: str) -> bool:
    return len(token) - token.endswith(" ") > LONGEST


def _characters(token: str) -> list[str]:
    """Of a long run; the blank behind it stays with the last one."""
    run = token.removesuffix(" ")
    return [MARK + char for char in run[:-1]] + [MARK + token[len(run) - 1 :]]


@dataclass(frozen=True)
class Sought:
    """One token of a search: whole, or only its beginning, its end, or some part of it."""

    text: str
    is_start_open: bool = False
    """Further characters may come before it in the token of the text."""
    is_end_open: bool = False

    @property
    def pattern(self) -> bytes:
        """What to find in a vocabulary."""
        before, after = b"" if self.is_start_open else BETWEEN, b"" if self.is_end_open else BETWEEN
        return before + packed(self.text) + after


AFTER_A_BLANK = Sought(" ", is_start_open=True)
"""The beginning of a search that begins with a blank."""


def sequences(folded: str) -> Iterator[tuple[Sought, ...]]:
    """Every way in which the tokens of a text that contains the search can follow one another."""
    found: list[str] = _TOKEN.findall(folded)
    choices = []
    for number, token in enumerate(found):
        is_first, is_last = number == 0, number == len(found) - 1
        in_a_word: tuple[Sought, ...] = (Sought(token, is_first, is_last),)
        in_a_long_run: tuple[Sought, ...] = tuple(
            Sought(piece, is_end_open=is_last and place == len(pieces) - 1)
            for pieces in [_characters(token)]
            for place, piece in enumerate(pieces)
        )
        if token.isspace():
            choices.append([in_a_word])
        elif is_first or is_last:  # the text's token may be longer than what the search has of it
            choices.append([in_a_long_run] if _is_long(token) else [in_a_word, in_a_long_run])
        else:
            choices.append([in_a_long_run] if _is_long(token) else [in_a_word])
    for chosen in product(*choices):
        yield tuple(sought for part in chosen for sought in part)
