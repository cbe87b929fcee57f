"""Words and numbers of three countries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter
from typing import Any

import pytest

from agentrl.errors import ConfigError
from agentrl.release.brief.figure import figure
from agentrl.release.brief.locale import LOCALES, NARROW, load_locale

CLAIMS = re.compile(
    r"certif|complian|conform|accredit|guarant|garanti|homologu|attest|proven|prouvé|\blabel|agréé|warrant",
    re.IGNORECASE,
)
"""What a brief never says of a release: it describes what was measured."""


def texts(words: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(words, dict):
        for key, value in words.items():
            yield from texts(value, f"{path}.{key}")
    elif isinstance(words, list):
        for index, value in enumerate(words):
            yield f"{path}.{index}", str(value)
    else:
        yield path, str(words)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_languages_have_the_same_keys_and_the_same_values_in_each_sentence() -> None:
    """F61: three reviewed templates, not one that is translated at run time."""
    first, *others = (dict(texts(load_locale(name).words)) for name in LOCALES)
    own = {".date", ".percent"}
    for other in others:
        assert set(first) == set(other)
        for key in first:
            if key.startswith((".money", ".unit")) or key in own:
                continue
            assert placeholders(first[key]) == placeholders(other[key]), key


def test_languages_differ_where_readers_do() -> None:
    us, gb, fr = (load_locale(name) for name in LOCALES)
    assert (us.word("paper"), gb.word("paper"), fr.word("paper")) == ("Letter", "A4", "A4")
    assert len({tuple(each.words["lead"]) for each in (us, gb, fr)}) == 3
    assert us.words["lead"][:3] == ["success", "cost", "loaded"]
    assert gb.words["lead"][:3] == ["owner", "decision", "oversight"]
    assert fr.words["lead"] == ["versions", "failed", "rollback", "confidence"]
    assert fr.word("block.gates") == "Critères de mise en production"
    assert fr.word("metric.human_override_rate") == "Taux de reprise humaine"
    assert fr.word("kind.frozen") == "banc d’essai figé"


@pytest.mark.parametrize("name", LOCALES)
def test_no_sentence_claims_what_nobody_certified(name: str) -> None:
    assert [text for _, text in texts(load_locale(name).words) if CLAIMS.search(text)] == []


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.853, "fraction", ["85.3%", "85.3%", "85,3\u202f%"]),
        (0.0003, "fraction", ["0.030%", "0.030%", "0,030\u202f%"]),
        (-0.012, "points", ["−1.2 pt", "−1.2 pt", "−1,2\u202fpt"]),
        (0.012, "points", ["+1.2 pt", "+1.2 pt", "+1,2\u202fpt"]),
        (0.96, "relative", ["−4.0%", "−4.0%", "−4,0\u202f%"]),
        (12345, "count", ["12,345", "12,345", "12\u202f345"]),
        (0, "count", ["0", "0", "0"]),
        (3.25, "seconds", ["3.2 s", "3.2 s", "3,2\u202fs"]),
        (60.0, "seconds", ["60 s", "60 s", "60\u202fs"]),
        (1804.0, "seconds", ["30.1 min", "30.1 min", "30,1\u202fmin"]),
        (90_000.0, "seconds", ["25.0 h", "25.0 h", "25,0\u202fh"]),
        (0.0123, "USD", ["$0.0123", "US$0.0123", "0,0123\u202f$\u202fUS"]),
        (1234.5, "EUR", ["€1,234.50", "€1,234.50", "1\u202f234,50\u202f€"]),
        (0.9, "GBP", ["£0.90", "£0.90", "0,90\u202f£"]),
        (1.2, "CHF", ["CHF 1.20", "CHF 1.20", "1,20\u202fCHF"]),
        (0.95, "level", ["95%", "95%", "95\u202f%"]),
        (1794301200.0, "date", ["11/10/2026", "10 November 2026", "10/11/2026"]),
        (None, "fraction", ["–", "–", "–"]),
    ],
)
def test_a_number_is_written_as_each_country_writes_it(value: float | None, unit: str, shown: list[str]) -> None:
    assert [load_locale(name).show(figure(value, unit, "")) for name in LOCALES] == shown


@pytest.mark.parametrize("unit", ["points", "relative", "fraction", "USD", "seconds"])
def test_what_rounds_to_nothing_has_no_sign(unit: str) -> None:
    value = 1.0 - 1e-12 if unit == "relative" else -1e-12
    assert "−" not in load_locale("en-US").show(figure(value, unit, ""))


def test_french_has_a_narrow_no_break_space_before_high_punctuation() -> None:
    """F61."""
    whole = "".join(text for _, text in texts(load_locale("fr-FR").words))
    assert re.findall(r"[ \u00a0][;:!?%»]", whole) == []
    assert f"{NARROW}:" in whole
    assert f"{NARROW}?" in whole
    assert f"{NARROW}%" in whole


def test_a_locale_that_nobody_wrote_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="en-US, en-GB, fr-FR"):
        load_locale("de-DE")
