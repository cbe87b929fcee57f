"""What personal data look like, by locale: those of `grading/pii.py`, and addresses and dates of birth.

A number counts in the form, and with the check digits or the words before it, that such numbers have: figures of a
report must stay. A name in words is not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agentrl.grading.pii import ALONE_BEFORE, ALONE_BEHIND, BY_LOCALE, PATTERNS

COUNTRIES: Mapping[str, str] = {"en-US": "us", "en-GB": "uk", "fr-FR": "fr"}
LOCALES = tuple(COUNTRIES)

US_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|"
    "OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY"
)
UK_AREAS = (
    "A[BL]|B[ABDHLNRST]?|C[ABFHMORTVW]|D[ADEGHLNTY]|E[CHNX]?|F[KY]|G[LUY]?|H[ADGPRSUX]|I[GMPV]|JE|K[ATWY]|"
    "L[ADELNSU]?|M[EKL]?|N[EGNPRW]?|O[LX]|P[AEHLOR]|RG|RM|S[AEGKLMNOPRSTWY]?|T[ADFNQRSW]|UB|W[ACDFNRSV]?|YO|ZE"
)
WORD = r"[A-Z][\w'’.-]{1,30}"
STREET = r"Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Close|Crescent|Terrace|Parkway|Pkwy"
STREET_NAME = rf"(?: {WORD}){{1,4}}? (?:{STREET})\b\.?"
VOIE = r"rue|impasse|chemin|all[ée]e|faubourg|(?:avenue|av\.|boulevard|bd|place|quai|cours|route) (?:de|du|des|d['’])"
"""The last ones are English words too, and count before a French one."""
TOWN = rf"{WORD}(?:[ -]{WORD}){{0,2}}"
MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|janv|f[ée]v|mars|avr|mai|juin|juil|ao[ûu]t|sept|d[ée]c"


@dataclass(frozen=True)
class PersonalForm:
    """One way in which personal data are recognised."""

    kind: str
    """In whose place `[kind]` is written."""
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool]
    needs: str = ""
    """Stands in any text that the pattern finds something in; empty: nothing in particular."""

    @property
    def needs_digits(self) -> bool:
        """All but one kind have numbers."""
        return self.kind not in ("email", "ip_address")  # an address of version 6 may be letters alone


def _any(_: str) -> bool:
    return True


def _is_dialled(text: str) -> bool:
    """No country's code starts with 0; `+1.077 (0.040)` is an estimate and its error."""
    return text[1] != "0" and not re.search(r"\(\d{1,3}\.\d|^\+\d{1,2}\.\d{3} \(", text)


def _real_date(text: str) -> bool:
    """Numbers of a date: one that may be a day, one that may be a month."""
    parts = [int(part) for part in re.findall(r"\d+", text)]
    return any(1 <= part <= 31 for part in parts)


ADDRESSES: Mapping[str, tuple[re.Pattern[str], ...]] = {
    "us": (
        re.compile(rf"(?<![\w.,$])\d{{1,5}}(?: [NSEW]\.?)?{STREET_NAME}(?: (?:Apt|Suite|Unit) ?#?\w{{1,6}})?"),
        re.compile(rf"(?<!\w){TOWN},? (?:{US_STATES}),? \d{{5}}(?:-\d{{4}})?(?![\w,]|[.]\d)"),
    ),
    "uk": (
        re.compile(rf"(?<![\w.,£])\d{{1,4}}[A-Za-z]?,?{STREET_NAME}"),
        re.compile(rf"(?<![\w-])(?:{UK_AREAS})\d(?:\d|[A-HJKPSTUW])? \d[ABD-HJLNP-UW-Z]{{2}}(?!\w)"),
    ),
    "fr": (
        re.compile(
            rf"(?<![\w.,])\d{{1,4}}(?: ?(?:bis|ter))?,? (?i:{VOIE}) ?(?:(?:de|du|des|la|le|les|l['’]) ?){{0,2}}"
            rf"[\w'’-]{{2,25}}(?: {WORD}){{0,3}}"
        ),
        re.compile(
            rf"(?<![\w.,-])(?:0[1-9]|[1-8]\d|9[0-58])\d{{3}} {TOWN}(?=[\s,.;)]{{0,3}}(?:[Cc]edex|CEDEX|France|FRANCE))"
        ),
    ),
}
"""A street with its number, or a town with its postal code: what is one or the other alone stays where it is too short
to tell from figures."""
BIRTH = re.compile(
    r"(?:born(?: on)?|d\.?o\.?b\.?|date of birth|birth ?date|née? le|date de naissance)[ \t]{0,3}[:=]?[ \t]{0,3}[\"']?"
    rf"(?:\d{{1,4}}[ ./-]\d{{1,2}}[ ./-]\d{{2,4}}|\d{{1,2}}(?:er|st|nd|rd|th)? (?:{MONTHS})[a-zéû]{{0,9}}\.?,? \d{{4}}|"
    rf"(?:{MONTHS})[a-z]{{0,9}}\.? \d{{1,2}},? \d{{4}})",
    re.IGNORECASE,
)


def personal_forms(locales: Sequence[str] = LOCALES) -> tuple[PersonalForm, ...]:
    """The forms of these locales, and those of every country.

    Raises:
        ValueError: a locale that is not known.
    """
    if unknown := [locale for locale in locales if locale not in COUNTRIES]:
        raise ValueError(f"found {unknown[0]!r}; allowed: {', '.join(COUNTRIES)}")
    countries = [COUNTRIES[locale] for locale in locales]
    needs = {"email": "@", "phone": "+"}
    detectors = {**PATTERNS, "phone": (PATTERNS["phone"][0], _is_dialled)}
    forms = [PersonalForm(kind, *detector, needs.get(kind, "")) for kind, detector in detectors.items()]
    forms += [PersonalForm(kind, *detector) for (kind, country), detector in BY_LOCALE.items() if country in countries]
    if "fr" in countries:  # people write the number's key apart, and with points
        forms.append(
            PersonalForm(
                "phone",
                re.compile(rf"{ALONE_BEFORE}(?:\+|00)33 ?(?:\(0\) ?)?[1-9](?:[ .-]?\d\d){{4}}{ALONE_BEHIND}"),
                _any,
            )
        )
    forms.append(PersonalForm("birth_date", BIRTH, _real_date))
    forms += [PersonalForm("address", pattern, _any) for country in countries for pattern in ADDRESSES[country]]
    return tuple(forms)
