"""A pattern finds what it should, is refused when it is none, and is stopped when it does not end."""

from __future__ import annotations

import sys

import pytest

from agentrl.errors import ConfigError
from agentrl.grading.patterns import Pattern, PatternTimeout


def test_a_pattern_finds_what_it_should() -> None:
    assert Pattern(r"\d{3}-\d{4}").search("call 555-1234 now")[0] == "555-1234"
    assert Pattern("^paris$").search("Paris") is None
    assert Pattern("^paris$", ignore_case=True).search("Paris") is not None
    assert Pattern("").search("\udcff") is not None


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("(x+x+)+y", "x" * 5000 + "!"), ("(a|a?)+$", "a" * 5000 + "!"), (r"(a+)\1+$", "a" * 4001 + "b"),
     ("(.*?,){25}P", ",".join(map(str, range(28))))],
)  # fmt: skip
def test_t21_a_search_without_an_end_is_stopped(pattern: str, text: str) -> None:
    with pytest.raises(PatternTimeout, match=r"took more than 0\.05 s on"):
        Pattern(pattern, timeout_seconds=0.05).search(text)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("(", "no regular expression"),
        ("a{2,1}", "no regular expression"),
        ("a" * 2001, "2,001 characters"),
        ("a{99999999}", "multiply to more than 100,000"),
        ("((a{100}){100}){100}", "multiply to more than 100,000"),
        ("(?x)((a{ 1000 }){ 1000 }){ 1000 }", "a blank in a counted repeat"),
        ("(?ix)a{1 00 0}", "a blank in a counted repeat"),
        ("(?x:a{#\n1000})", "a blank in a counted repeat"),
        ("(" * 900 + ")" * 900, "no regular expression"),
    ],
)
def test_what_is_no_pattern_or_too_large_to_compile_is_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Pattern(pattern)


def test_a_missing_library_is_named_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "regex", None)
    with pytest.raises(ConfigError, match=r"the pattern 'a' needs regex: pip install 'agentrl\[graders\]'"):
        Pattern("a")
