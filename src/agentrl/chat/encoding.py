"""Text to token ids, with control tokens only where the template writes them.

What a tool or a user says may spell `<|im_end|>`. Encoded as it stands it would become the control token, and text
from outside could end its own message and open another (template injection). So such spellings are cut after their
first character before the template is rendered, and the cut is taken out again between two encodings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

CUT = "\ufdd0"
"""A code point that Unicode reserves to programs: no text holds it, no template trims it."""


class Encoding:
    """One tokenizer's encoder.

    Args:
        tokenizer: a Hugging Face tokenizer.
        marks: tokens that count as control tokens although the tokenizer does not call them special.
    """

    def __init__(self, tokenizer: Any, marks: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        control = {str(token.content) for token in added if token.special} | set(map(str, tokenizer.all_special_tokens))
        control |= {str(token.content) for token in added} & set(marks)
        self._spelling = _first_characters(token for token in control if len(token) > 1)

    def as_text(self, text: str) -> str:
        """Text from outside, as it may go into a template: no control token is spelled in it."""
        text = text.replace(CUT, "\ufffd")
        return self._spelling.sub(rf"\g<0>{CUT}", text) if self._spelling else text

    def all_as_text(self, value: Any) -> Any:
        """The same for every text in lists and objects: parts of a message, tool objects."""
        if isinstance(value, str):
            return self.as_text(value)
        if isinstance(value, list | tuple):
            return [self.all_as_text(each) for each in value]
        if isinstance(value, dict):
            return {self.all_as_text(key): self.all_as_text(each) for key, each in value.items()}
        return value

    def ids(self, rendered: str, *, behind: str = "") -> list[int]:
        """Ids of rendered text.

        Args:
            behind: the control token that stands before it: some tokenizers mark the start of a text.
        """
        first, *others = rendered.split(CUT)
        encoded = self._piece(first, behind)
        for other in others:
            encoded += self._piece(other, behind)
        return encoded

    def _piece(self, text: str, behind: str) -> list[int]:
        ids = list(self._tokenizer.encode(behind + text, add_special_tokens=False))
        return ids[len(self._tokenizer.encode(behind, add_special_tokens=False)) :] if behind else ids


def _first_characters(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Matches the first character of every spelling of a token, overlapping ones too.

    Grouped by that character: vocabularies with a thousand control tokens have two or three.
    """
    rests: dict[str, list[str]] = {}
    for token in tokens:
        rests.setdefault(token[0], []).append(re.escape(token[1:]))
    groups = (f"{re.escape(first)}(?={'|'.join(sorted(ends))})" for first, ends in sorted(rests.items()))
    return re.compile("|".join(groups)) if rests else None
