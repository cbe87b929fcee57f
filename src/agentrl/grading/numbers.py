"""Find the number that an answer states, with its unit and the precision it was printed in.

One answer is one number. Lists, ranges and "12 or 14" state none, however near the right one is: whoever may name
several numbers names them all.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

MAX_CHARS = 4_000
"""From the end: answers come last, and the time that reading takes is bounded."""
MAX_CANDIDATES = 3

_SCALES = {"%": 0.01, "p": 0.01, "h": 100.0, "k": 1e3, "t": 1e3, "m": 1e6, "b": 1e9, "tr": 1e12, "tn": 1e12}
_UNIT = (
    r"%|percent(?:age\s+points?)?|per\s+cent|pct|hundreds?|thousands?|k|millions?|mln|mm|mn|m|billions?|bln|bn|b"
    r"|trillions?|tn"
)
_CURRENCIES = "$€£¥₹"
_MONTHS = (  # whole words: "maybe 13" and "margin 12" are no dates
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_YEAR = r"(?:19|20)\d\d\b(?![.,]?\d|\s*%)"
_DATE = re.compile(
    rf"\b{_MONTHS}\s+\d{{1,2}}(?:\s*,\s*(?:19|20)\d\d)?\b(?![.,]\d)"
    rf"|\b(?:in|for|from|to|of|and|during|since|through|than|fiscal|year)\s+{_YEAR}"
    rf"|\bbetween\s+{_YEAR}(?=\s+and\s+{_YEAR})",
    re.IGNORECASE,
)
_MARKER = re.compile(r"\banswer\b|\\boxed|####", re.IGNORECASE)
_ANNOUNCED = re.compile(
    r"(?:\b(?:is|was|be|equals?)\b|[:=])[\s\"'*~{]*(?:(?:about|approximately|roughly|around|equal|to|an?)\s+)*$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:\bnot|n't|\bnever)\s+(?:(?:about|exactly|equal|to|an?|the|simply|just)\s+)*[\"'*~]*$", re.IGNORECASE
)
_TAKEN_BACK = re.compile(
    r"\b(?:wrong|incorrect|false)\b|(?:\b(?:is|was)\s+not|\b(?:isn|wasn)'t)\s+(?:the|right|correct|true)\b",
    re.IGNORECASE,
)
_RAISED = re.compile("[\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u00bc-\u00be\u2150-\u215f]+")
_POWER = re.compile(r"(?<=\d)\s*(?:[xX×*·]|\\times)\s*10\s*(?:\^|\*\*)\s*[{(]?\s*([-+]?\d{1,3})(?!\d)\s*[)}]?")
_MINUS = re.compile(rf"(?<![\d)%])(?<![\d)%]\s)\b(?:minus|negative)\s+(?=[{_CURRENCIES}]?\s*\.?\d)", re.IGNORECASE)
_EITHER = r"\W*(?:\b(?:or|maybe|perhaps|possibly|alternatively|versus|vs)\b\W*)+"
_ALTERNATIVE = re.compile(rf"\s*(?:[,;/|&]|\band\b|\bto\b|\s)+\s*|{_EITHER}", re.IGNORECASE)
_CHOICE = re.compile(rf"\s*(?:[,;/|&]|\band\b)\s*|{_EITHER}", re.IGNORECASE)  # numbers in a row of a table are none


@dataclass(frozen=True)
class Number:
    """A number as printed: "32.5 million" has value 32,500,000, face 32.5 and scale 1,000,000."""

    value: float
    face: float
    scale: float
    digits: str
    """The printed digits without sign and separators, such as "32.5"."""
    start: int
    end: int
    currency: str = ""
    """The sign before it, such as "$"."""

    def precisions(self) -> list[tuple[float, int]]:
        """(last place in the unit of `face`, significant digits); an integer's trailing zeros may be rounding."""
        whole, _, decimals = self.digits.lstrip("0").partition(".")
        significant = (whole + decimals).lstrip("0")
        found = [(10.0 ** -len(decimals), len(significant))]
        zeros = len(whole) - len(whole.rstrip("0"))
        if zeros and not decimals:
            found.append((10.0**zeros, len(significant) - zeros))
        return found


@lru_cache(maxsize=64)
def _pattern(own_units: tuple[str, ...]) -> re.Pattern[str]:
    own = "".join(f"{re.escape(unit)}|" for unit in sorted(own_units, key=len, reverse=True))
    unit = rf"\s*(?:{own}{_UNIT})(?!\w)"
    return re.compile(
        rf"(?<![\w.])(?<!\d,)(?P<lead>(?:[-+{_CURRENCIES}(]\s*){{0,4}})"
        r"(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?P<exponent>e[-+]?\d{1,3})?(?![.,]?\d)"
        rf"(?P<inner>{unit})?(?P<close>\s*\))?(?P<outer>{unit})?(?!\w)",
        re.ASCII | re.IGNORECASE,
    )


def clean(text: str) -> str:
    """One spelling for digits, minus signs, powers of ten and separators, no invisible characters, the last
    `MAX_CHARS` characters."""
    text = _RAISED.sub(_as_plain, text[-MAX_CHARS:])
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f'\u2019_](?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub("[\u2212\u2012\u2013\u2014\ufe63]", "-", text)
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    text = _POWER.sub(r"e\1", text)
    return _MINUS.sub("-", text)


def find_numbers(text: str, units: Mapping[str, float] | None = None) -> list[Number]:
    """Every number of the text; one in brackets behind another only repeats it, as in "34% ( 34 % )".

    Args:
        units: what further units behind a number multiply it by, such as {"km": 1000}; they come before "m", "k" and
            other scale words.
    """
    own = {clean(unit).strip().lower(): factor for unit, factor in (units or {}).items()}
    numbers: list[Number] = []
    for match in _pattern(tuple(own)).finditer(text):
        lead, is_bracketed = match["lead"], "(" in match["lead"] and match["close"] is not None
        if is_bracketed and numbers and not text[numbers[-1].end : match.start()].strip():
            continue
        digits = match["digits"].replace(",", "")
        unit = (match["inner"] or match["outer"] or "").strip().lower()
        scale = own.get(unit, _SCALES.get(unit[:2], _SCALES.get(unit[:1], 1.0)))
        scale *= float(f"1{match['exponent'] or ''}")
        face = float(digits) * (-1 if "-" in lead or is_bracketed else 1)
        currency = next((sign for sign in lead if sign in _CURRENCIES), "")
        numbers.append(Number(face * scale, face, scale, digits, match.start(), match.end(), currency))
    return numbers


def _as_plain(match: re.Match[str]) -> str:
    """Raised digits are the power of a 10 or part of a unit such as m², else footnotes; ½ is no number that is read."""
    before, raised = match.string[: match.start()], unicodedata.normalize("NFKC", match[0]).replace("\u2212", "-")
    if "\u2044" in raised:
        return " "
    return f"^{raised}" if before.endswith("10") else raised if before[-1:].isalpha() else " "


def read_answer(text: str, units: Mapping[str, float] | None = None) -> Number | None:
    """The one number that the text gives as its answer.

    Behind the last word "answer" it is the number announced by "is" or ":", else the last one. Without the word it is
    the last number. Alternatives ("12 or 14"), more than three different numbers, and what the text takes back ("not
    12", "12 is wrong") are no answer.
    """
    text = clean(text)
    marker = [match.end() for match in _MARKER.finditer(text)]
    if marker and (numbers := _undated(tail := text[marker[-1] :], units)):
        text, number = tail, _announced(tail, numbers)
    else:
        number = _last(text, _undated(text, units))
    return None if number is None or _TAKEN_BACK.search(text[number.end :]) else number


def _undated(text: str, units: Mapping[str, float] | None) -> list[Number]:
    """The numbers that are no dates, or all where there are only dates; those that the text denies are left out."""
    undated = _DATE.sub(lambda match: " " * len(match[0]), text)
    numbers = find_numbers(undated, units) or find_numbers(text, units)
    return [number for number in numbers if not _DENIED.search(text[max(0, number.start - 40) : number.start])]


def _announced(text: str, numbers: list[Number]) -> Number | None:
    if _are_too_many(numbers):
        return None
    for number, following in zip(numbers, [*numbers[1:], None], strict=True):
        if _ANNOUNCED.search(text[: number.start]):
            is_choice = following and _are_rivals(number, following, text, _ALTERNATIVE)
            return None if is_choice else number
    return _last(text, numbers)


def _last(text: str, numbers: list[Number]) -> Number | None:
    if not numbers or _are_too_many(numbers):
        return None
    if len(numbers) > 1 and _are_rivals(numbers[-2], numbers[-1], text, _CHOICE):
        return None
    return numbers[-1]


def _are_too_many(numbers: list[Number]) -> bool:
    return len({f"{number.value:.9g}" for number in numbers}) > MAX_CANDIDATES


def _are_rivals(one: Number, other: Number, text: str, between: re.Pattern[str]) -> bool:
    """Whether two numbers stand side by side as alternatives, and are not the same."""
    is_same = math.isclose(one.value, other.value)
    return not is_same and between.fullmatch(text[one.end : other.start]) is not None
