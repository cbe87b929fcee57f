"""Personal data in text: forms that can be recognised, with their check digits where they have some.

A name or an address in words is not found. Figures of a report must not be: a number counts only in the form and with
the prefix that such numbers have. All patterns are linear in the length of the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MAX_CHARS = 200_000
"""Of a text, from its start and from its end; nobody writes more by hand."""
ALONE_BEFORE, ALONE_BEHIND = r"(?<![\w.,+-])(?<!\d )", r"(?! ?[\w-]*\d|\w|[.,]\d)"


@dataclass(frozen=True)
class PersonalData:
    """A finding, fit to be shown: the text itself stays out of it."""

    kind: str
    start: int
    masked: str
    """First character and length."""


def find_personal_data(
    text: str, kinds: Sequence[str], locales: Sequence[str], allowed: Sequence[str] = ()
) -> list[PersonalData]:
    """What is found, by kind and place.

    Args:
        kinds: of `config.graders.conduct.PII_KINDS`.
        locales: whose phone numbers and national ids are known: us, fr, uk.
        allowed: texts that are no finding, in any case.
    """
    known = {each.casefold() for each in allowed}
    text = text if len(text) <= 2 * MAX_CHARS else f"{text[:MAX_CHARS]} {text[-MAX_CHARS:]}"
    return [
        PersonalData(kind, match.start(), f"{match[0][0]}... ({len(match[0])} characters)")
        for kind in kinds
        for pattern, is_real in _detectors(kind, locales)
        for match in pattern.finditer(text)
        if match[0].casefold() not in known and is_real(match[0])
    ]


def _luhn(text: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812)."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    """Remainder 1 of 97, letters read as 10 to 35, country and check digits at the end (ISO 13616)."""
    compact = re.sub(r"[ -]", "", text).upper()
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def _nir(text: str) -> bool:
    """France: 97 less the remainder of the first 13, with 2A and 2B of Corsica as 19 and 18."""
    compact = re.sub(r"\s", "", text).upper().replace("2A", "19").replace("2B", "18")
    return len(compact) == 15 and int(compact[13:]) == 97 - int(compact[:13]) % 97


def _ssn(text: str) -> bool:
    """United States: areas 000, 666 and 900 to 999, group 00 and serial 0000 are not given out."""
    area, group, serial = re.split(r"[ -]", text)
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _nino(text: str) -> bool:
    """United Kingdom: prefixes that are not given out."""
    prefix = text[:2].upper()
    return prefix not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _address(text: str) -> bool:
    """An address of somebody: not this machine's own, and not `a::b`, which programs write too."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    is_long = address.version == 4 or sum(map(bool, text.split(":"))) >= 3
    return is_long and not (address.is_loopback or address.is_unspecified)


def _any(_: str) -> bool:
    return True


Detector = tuple[re.Pattern[str], Callable[[str], bool]]


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.IGNORECASE)


PATTERNS: dict[str, Detector] = {
    "email": (_compiled(r"(?<![\w.+-])\w[\w.+-]{0,63}@\w[\w-]{0,62}(?:\.\w[\w-]{0,62}){1,8}"), _any),
    "iban": (_compiled(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"), _iban),
    "credit_card": (
        _compiled(
            rf"{ALONE_BEFORE}(?=4|5[1-5]|2[2-7]|3[47]|6011|65)"
            rf"(?:\d{{13,19}}|\d{{4}}([ -])\d{{4}}\1\d{{4}}\1\d{{1,7}}|\d{{4}}([ -])\d{{6}}\2\d{{5}}){ALONE_BEHIND}"
        ),
        _luhn,
    ),
    "ip_address": (
        _compiled(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4})(?![\w:]|\.\w)"),
        _address,
    ),
    "phone": (_compiled(r"(?<![\w.,])\+(?:\d[ .()-]{0,2}){7,14}\d(?!\w)"), _any),
}
"""Of every country."""
BY_LOCALE: dict[tuple[str, str], Detector] = {
    ("phone", "us"): (
        _compiled(rf"{ALONE_BEFORE}(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{{4}}{ALONE_BEHIND}"),
        _any,
    ),
    ("phone", "fr"): (_compiled(rf"{ALONE_BEFORE}0[1-9](?:[ .-]?\d\d){{4}}{ALONE_BEHIND}"), _any),
    ("phone", "uk"): (
        _compiled(
            rf"{ALONE_BEFORE}(?:0[17]\d{{3}} ?\d{{3}} ?\d{{3}}|02\d ?\d{{4}} ?\d{{4}}|01\d1 ?\d{{3}} ?\d{{4}})"
            rf"{ALONE_BEHIND}"
        ),
        _any,
    ),
    ("national_id", "us"): (_compiled(rf"{ALONE_BEFORE}\d{{3}}([ -])\d\d\1\d{{4}}{ALONE_BEHIND}"), _ssn),
    ("national_id", "fr"): (
        _compiled(
            rf"{ALONE_BEFORE}[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{{3}} ?\d{{3}} ?\d\d"
            rf"{ALONE_BEHIND}"
        ),
        _nir,
    ),
    ("national_id", "uk"): (_compiled(r"(?<!\w)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D](?!\w)"), _nino),
}


def _detectors(kind: str, locales: Sequence[str]) -> Iterator[Detector]:
    if kind in PATTERNS:
        yield PATTERNS[kind]
    yield from (BY_LOCALE[kind, locale] for locale in locales if (kind, locale) in BY_LOCALE)
