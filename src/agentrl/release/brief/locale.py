"""Words, numbers, dates and money as readers of one country expect them. The numbers themselves are the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from markupsafe import Markup

from agentrl.errors import ConfigError

LOCALES = ("en-US", "en-GB", "fr-FR")
NARROW = "\u202f"
"""The narrow no-break space of French typography."""
MINUS = "\u2212"
DASH = "\u2013"
"""In the place of a number that was not measured."""
CURRENCIES = re.compile(r"[A-Z]{3}")
SIGNED = ("points", "relative")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
"""Not those of the process's own locale, which a server may have set to anything."""


@dataclass(frozen=True)
class Locale:
    """One of `LOCALES`."""

    name: str
    words: Mapping[str, Any]

    def word(self, key: str) -> str:
        """A text by its dotted key; of a word that no language has, such as a team's own metric, its last part."""
        found: Any = self.words
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found if isinstance(found, str) else key.rpartition(".")[2].replace("_", " ")

    def say(self, key: str, /, **values: Any) -> Markup:
        """A sentence with its values, each escaped unless it is markup already."""
        return Markup(self.word(key)).format(**values)

    def number(self, value: float, digits: int) -> str:
        """With this many decimals, grouped in threes."""
        text = f"{abs(value):,.{digits}f}"
        is_negative = value < 0 and any(char in "123456789" for char in text)
        text = text.replace(",", "\0").replace(".", self.word("decimal")).replace("\0", self.word("group"))
        return f"{MINUS}{text}" if is_negative else text

    def percent(self, fraction: float, digits: int = 1) -> str:
        """A fraction; one that would round to nothing keeps two figures that count."""
        value = 100 * fraction
        if value and abs(value) < 10**-digits:
            digits = min(6, 1 - math.floor(math.log10(abs(value))))
        return self.word("percent").format(n=self.number(value, digits))

    def day(self, at: float) -> str:
        """The date, in UTC."""
        day = datetime.fromtimestamp(at, UTC)
        parts = {"d": day.day, "dd": f"{day.day:02d}", "mm": f"{day.month:02d}", "y": day.year}
        return self.word("date").format(**parts, month=MONTHS[day.month - 1])

    def show(self, figure: Mapping[str, Any]) -> str:
        """A figure with its unit, without its sign where it has none by nature; a dash where it was not measured."""
        value, unit = figure["value"], figure["unit"]
        if value is None:
            return DASH
        sign = "+" if unit in SIGNED and (value - (unit == "relative")) > 0 else ""
        return sign + self._shown(float(value), unit)

    def _shown(self, value: float, unit: str) -> str:
        if unit == "count":
            return self.number(value, 0)
        if unit in ("fraction", "relative_size"):
            return self.percent(value)
        if unit == "relative":
            return self.percent(value - 1)
        if unit == "percent":
            return self.percent(value / 100, 0 if value == int(value) else 1)
        if unit in ("points", "points_size"):
            return self.word("unit.points").format(n=self.number(100 * value, 1 if abs(value) >= 0.001 else 2))
        if unit == "level":
            return self.percent(value, 0 if math.isclose(100 * value, round(100 * value)) else 1)
        if unit == "seconds":
            return self._duration(value)
        if unit == "days":
            word = "unit.days_one" if round(value, 1) == 1 else "unit.days"
            return self.word(word).format(n=self.number(value, 1))
        if unit == "nats":
            return self.word("unit.nats").format(n=self.number(value, 3))
        if unit == "date":
            return self.day(value)
        if CURRENCIES.fullmatch(unit):
            return self.money(value, unit)
        return self.number(value, 3 if abs(value) < 100 else 1)

    def _duration(self, seconds: float) -> str:
        """Seconds up to ten minutes, then minutes, then hours."""
        if abs(seconds) < 600:
            is_round = abs(seconds) >= 10 and seconds == int(seconds)
            return self.word("unit.seconds").format(n=self.number(seconds, 0 if is_round or seconds >= 100 else 1))
        if abs(seconds) < 36_000:
            return self.word("unit.minutes").format(n=self.number(seconds / 60, 1))
        return self.word("unit.hours").format(n=self.number(seconds / 3600, 1))

    def money(self, value: float, code: str) -> str:
        """An amount in the currency that it was recorded in: amounts are never converted here."""
        size = abs(value)
        is_cents = size >= 1 or math.isclose(size, round(size, 2), abs_tol=1e-12)
        digits = 2 if is_cents else min(6, 2 - math.floor(math.log10(size)))
        known = self.words["money"]
        pattern = known.get(code, known["other"]) if code != "other" else known["other"]
        return str(pattern.format(n=self.number(value, digits), code=code))


@cache
def load_locale(name: str) -> Locale:
    """A language's words.

    Raises:
        ConfigError: there is no such locale.
    """
    if name not in LOCALES:
        raise ConfigError(f"--locale {name}: found '{name}'; allowed: {', '.join(LOCALES)}")
    text = files(__package__).joinpath("locales", f"{name}.yaml").read_text("utf-8")
    words = yaml.safe_load(text)
    return Locale(name, _spaced(words) if words["lang"] == "fr" else words)


def _spaced(value: Any) -> Any:
    """French as it is set: a narrow no-break space before high punctuation, units, and inside of quotes."""
    if isinstance(value, Mapping):
        return {key: _spaced(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_spaced(each) for each in value]
    if not isinstance(value, str):
        return value
    spaced = re.sub(r" (?=[;:!?%»$€£])", NARROW, value)
    return re.sub(r"(?<=[«$]) |(?<=\{n\}) (?=(?:s|min|h|pt|nat)\b|\{code\}|$)", NARROW, spaced)
