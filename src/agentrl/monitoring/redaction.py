"""What is about to be written, without secrets and personal data: `[secret]`, `[email]` and so on stand in their place.

Whatever is kept of users' sessions passes here first: records, logs, spans, briefs, the audit log. Where redaction
itself fails, the content is dropped and the record is kept: nothing that was not looked at is written.

    secret_forms.py     keys, tokens, passwords
    personal_forms.py   personal data, by locale

A name in words, or a secret that looks like a word and has no name before it, is not found.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.monitoring.personal_forms import LOCALES, PersonalForm, personal_forms
from agentrl.monitoring.secret_forms import (
    FORMS,
    REFERENCE,
    environment_secrets,
    is_random,
    literal_forms,
    may_name_a_secret,
    names_a_secret,
)

SECRET = "[secret]"
DROPPED = "[dropped: could not be redacted]"
MAX_DEPTH = 64
MIN_NUMBER_DIGITS = 9
"""Whole numbers with fewer digits are neither cards nor ids."""

DIGIT = re.compile(r"\d")

_known: set[str] = set()


def know_secret(*values: str) -> None:
    """Redact these values wherever they stand from now on, such as an API key whose variable has an innocent name."""
    _known.update(value for value in values if len(value) >= 6)


@dataclass(frozen=True)
class Redactor:
    """Redacts by the forms of some locales, and counts what it found."""

    locales: Sequence[str] = LOCALES
    found: Counter[str] = field(default_factory=Counter)
    """By kind: secret, email, phone, ..."""

    def text(self, text: str) -> str:
        """The text without what looks secret or personal; what is there already, such as `[secret]`, stays."""
        if not text:
            return text
        text = self._secrets(text)
        has_digits = DIGIT.search(text) is not None
        for form in _forms(tuple(self.locales)):
            if form.needs in text and (has_digits or not form.needs_digits):
                text = form.pattern.sub(lambda match, form=form: self._personal(match, form), text)  # type: ignore[misc]
        return text

    def value(self, value: Any, depth: int = 0) -> Any:
        """The same of plain JSON, keys included; a value whose key names a secret goes whole.

        Raises:
            ValueError: it is nested too deeply.
            TypeError: it is no JSON.
        """
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return self._number(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._named(str(key), each, depth) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each, depth + 1) for each in value]
        raise TypeError(f"{type(value).__name__} is no JSON")

    def _named(self, key: str, value: Any, depth: int) -> Any:
        is_filled = value is not None and value != "" and not isinstance(value, bool)
        if is_filled and names_a_secret(key) and not (isinstance(value, str) and REFERENCE.fullmatch(value)):
            return self._hidden()
        if isinstance(value, str) and may_name_a_secret(key) and is_random(value):
            return self._hidden()
        return self.value(value, depth + 1)

    def _number(self, value: int) -> int | str:
        if abs(value) < 10 ** (MIN_NUMBER_DIGITS - 1) or abs(value) >= 10**34:
            return value
        text = str(value)
        return value if (redacted := self.text(text)) == text else redacted

    def _secrets(self, text: str) -> str:
        if literal := literal_forms((*environment_secrets(), *sorted(_known))):
            text = literal.sub(lambda _: self._hidden(), text)
        lowered = text.lower()
        for form in FORMS:
            if any(need in lowered for need in form.needs):
                text = form.pattern.sub(lambda match, form=form: self._secret(match, form.is_real), text)  # type: ignore[misc]
        return text

    def _secret(self, match: re.Match[str], is_real: Any) -> str:
        groups = match.groupdict()
        value = groups.get("value") or match[0]
        if SECRET in value or not is_real(value):
            return match[0]
        quote = re.match(r"\\?[\"']", value)
        ends = (quote[0], value[-1]) if quote and groups.get("value") else ("", "")
        return f"{groups.get('keep') or ''}{ends[0]}{self._hidden()}{ends[1]}"

    def _hidden(self) -> str:
        self.found["secret"] += 1
        return SECRET

    def _personal(self, match: re.Match[str], form: PersonalForm) -> str:
        if not form.is_real(match[0]):
            return match[0]
        self.found[form.kind] += 1
        return f"[{form.kind}]"


_FORMS: dict[tuple[str, ...], tuple[PersonalForm, ...]] = {}


def _forms(locales: tuple[str, ...]) -> tuple[PersonalForm, ...]:
    return _FORMS.get(locales) or _FORMS.setdefault(locales, personal_forms(locales))


def redact_text(text: str, locales: Sequence[str] = LOCALES) -> str:
    """The text without what looks secret or personal; all of it is dropped where that fails. Never raises."""
    try:
        return Redactor(locales).text(text)
    except Exception:
        return DROPPED


def redact(value: Any, locales: Sequence[str] = LOCALES) -> Any:
    """The same of plain JSON: of what cannot be redacted, the part is dropped and the rest is kept. Never raises."""
    try:
        return Redactor(locales).value(value)
    except Exception:
        if isinstance(value, Mapping):  # by its keys, so that the record stays
            return {redact_text(str(key), locales): _or_dropped(str(key), each, locales) for key, each in value.items()}
        return DROPPED


def _or_dropped(key: str, value: Any, locales: Sequence[str]) -> Any:
    try:
        (kept,) = Redactor(locales).value({key: value}).values()
    except Exception:
        return DROPPED
    return kept


def findings(texts: Iterable[str], locales: Sequence[str] = LOCALES) -> dict[str, int]:
    """How often each kind stands in the texts, by kind: the scan of what a bundle is made of."""
    redactor = Redactor(locales)
    for text in texts:
        redactor.text(text)
    return dict(sorted(redactor.found.items()))


class RedactingFormatter(logging.Formatter):
    """Log lines as another formatter makes them, redacted: messages, arguments and tracebacks alike."""

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(self._inner.format(record))


def redact_logs(logger: logging.Logger | None = None) -> None:
    """Let a logger write redacted lines: all of its handlers, and one to stderr where it has none.

    Args:
        logger: None is agentrl's own. What runs for long calls it when it starts; a library does not.
    """
    logger = logging.getLogger("agentrl") if logger is None else logger
    if not logger.handlers:
        to_stderr = logging.StreamHandler()
        to_stderr.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(to_stderr)
    for handler in logger.handlers:
        if not isinstance(handler.formatter, RedactingFormatter):
            handler.setFormatter(RedactingFormatter(handler.formatter))
