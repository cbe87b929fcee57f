"""Find the number that an answer states, with its unit and the precision it was printed in."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

MAX_CHARS = 4_000
MAX_CANDIDATES = 3

_SCALES = {"%": 0.01, "p": 0.01, "k": 1e3, "t": 1e3, "m": 1e6, "b": 1e9, "tr": 1e12, "tn": 1e12}
_UNIT = (
    r"%|percent(?:age\s+points?)?|per\s+cent|pct|thousands?|k|millions?|mln|mm|mn|m|billions?|bln|bn|b|trillions?|tn"
)
_NUMBER = re.compile(
    r"(?<![\w.])(?<!\d,)(?P<lead>(?:[-+$€£(]\s*){0,4})"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?P<exponent>e[-+]?\d{1,3})?(?![.,]?\d)"
    rf"(?P<inner>\s*(?:{_UNIT})(?!\w))?(?P<close>\s*\))?(?P<outer>\s*(?:{_UNIT})(?!\w))?(?!\w)",
    re.ASCII | re.IGNORECASE,
)
_MONTHS = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"\b{_MONTHS}\s+\d{{1,2}}(?:\s*,\s*(?:19|20)\d\d)?\b(?![.,]\d)"
    r"|\b(?:in|for|from|to|of|and|during|since|between|through|than|fiscal|year)\s+(?:19|20)\d\d\b(?![.,]?\d|\s*%)",
    re.IGNORECASE,
)
_MARKER = re.compile(r"\banswer\b|\\boxed|####", re.IGNORECASE)
_ANNOUNCED = re.compile(
    r"(?:\b(?:is|was|be|equals?)\b|[:=])[\s\"'*~{]*(?:(?:about|approximately|roughly|around|equal|to|an?)\s+)*$",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(r"\s*(?:[,;/|]|\bor\b|\band\b|\bto\b|\bmaybe\b|\s)+\s*", re.IGNORECASE)
_CHOICE = re.compile(r"\s*(?:[,;/|]|\bor\b|\band\b)\s*", re.IGNORECASE)  # numbers in a row of a table are none


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

    def precisions(self) -> list[tuple[float, int]]:
        """(last place in the unit of `face`, significant digits); an integer's trailing zeros may be rounding."""
        whole, _, decimals = self.digits.lstrip("0").partition(".")
        significant = (whole + decimals).lstrip("0")
        found = [(10.0 ** -len(decimals), len(significant))]
        zeros = len(whole) - len(whole.rstrip("0"))
        if zeros and not decimals:
            found.append((10.0**zeros, len(significant) - zeros))
        return found


def clean(text: str) -> str:
    """One spelling for digits and minus signs, no invisible characters, the last `MAX_CHARS` characters."""
    text = unicodedata.normalize("NFKC", text[-MAX_CHARS:])
    text = re.sub("[\u2212\u2012\u2013\u2014\ufe63]", "-", text)
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def find_numbers(text: str) -> list[Number]:
    """Every number of the text; one in brackets behind another only repeats it, as in "34% ( 34 % )"."""
    numbers: list[Number] = []
    for match in _NUMBER.finditer(text):
        lead, is_bracketed = match["lead"], "(" in match["lead"] and match["close"] is not None
        if is_bracketed and numbers and not text[numbers[-1].end : match.start()].strip():
            continue
        digits = match["digits"].replace(",", "")
        unit = (match["inner"] or match["outer"] or "").strip().lower()
        scale = _SCALES.get(unit[:2], _SCALES.get(unit[:1], 1.0)) * float(f"1{match['exponent'] or ''}")
        face = float(digits) * (-1 if "-" in lead or is_bracketed else 1)
        numbers.append(Number(face * scale, face, scale, digits, match.start(), match.end()))
    return numbers


def read_answer(text: str) -> Number | None:
    """The one number that the text gives as its answer.

    Behind the last word "answer" it is the number announced by "is" or ":", else the last one. Without the word it is
    the last number. Alternatives ("12 or 14"), and more than three different numbers, are no answer.
    """
    text = clean(text)
    marker = [match.end() for match in _MARKER.finditer(text)]
    if marker and (numbers := _undated(text[marker[-1] :])):
        return _announced(text[marker[-1] :], numbers)
    return _last(text, _undated(text))


def _undated(text: str) -> list[Number]:
    """The numbers that are no dates, or all where there are only dates."""
    return find_numbers(_DATE.sub(lambda match: " " * len(match[0]), text)) or find_numbers(text)


def _announced(text: str, numbers: list[Number]) -> Number | None:
    for number, following in zip(numbers, [*numbers[1:], None], strict=True):
        if _ANNOUNCED.search(text[: number.start]):
            is_choice = following and _are_rivals(number, following, text, _ALTERNATIVE)
            return None if is_choice or _are_too_many(numbers) else number
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
