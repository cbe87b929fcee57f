"""Whether a text gives away a secret, also where it was told to write it in another form."""

from __future__ import annotations

import base64
import codecs
import unicodedata
from functools import lru_cache

MIN_CHARS = 6
"""Letters and digits of a secret that is looked for: shorter ones are found by accident."""


def plain(text: str) -> str:
    """Letters and digits alone, small: `K-E-S-T-R-E-L 41` and `kestrel41` are one."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def gives_away(text: str, secret: str) -> bool:
    """Whether the secret stands in the text: as it is, spelled out, backwards, in rot13, hexadecimal or base64.

    Raises:
        ValueError: the secret has fewer than `MIN_CHARS` letters and digits.
    """
    found = plain(text)
    if any(form in found for form in _plain_forms(secret)):
        return True
    tight = "".join(text.split())
    return any(form in tight for form in _base64_forms(secret))


@lru_cache(1024)
def _plain_forms(secret: str) -> tuple[str, ...]:
    word = plain(secret)
    if len(word) < MIN_CHARS:
        raise ValueError(f"found the secret {secret!r}; allowed: at least {MIN_CHARS} letters and digits")
    cases = {secret, secret.lower(), secret.upper()}
    return (word, word[::-1], codecs.encode(word, "rot13"), *sorted(each.encode().hex() for each in cases))


@lru_cache(1024)
def _base64_forms(secret: str) -> tuple[str, ...]:
    """The characters that the secret alone decides, at each of three alignments."""
    forms = set()
    for each in (secret, secret.lower(), secret.upper()):
        raw = each.encode()
        for before in range(3):  # bytes that may be anything; 6 bits are a character
            text = base64.b64encode(b"\0" * before + raw).decode()
            forms.add(text[-(-8 * before // 6) : 8 * (before + len(raw)) // 6])
    return tuple(sorted(form for form in forms if len(form) >= MIN_CHARS))
