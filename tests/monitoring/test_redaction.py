"""T8, T9: secrets and personal data are found in the forms that they have; figures of reports are not."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.monitoring import redaction
from agentrl.monitoring.personal_forms import LOCALES, personal_forms
from agentrl.monitoring.redaction import DROPPED, findings, know_secret, redact, redact_logs, redact_text
from agentrl.monitoring.secret_forms import FORMS, environment_secrets

BODY = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4f"
"""Looks random; every planted secret holds a part of it, so that one search finds what was left."""

SECRETS = {
    "openai": f"sk-proj-{BODY}",
    "anthropic": f"sk-ant-api03-{BODY}",
    "github": f"ghp_{BODY}",
    "github-fine": f"github_pat_{BODY}_{BODY}",
    "gitlab": f"glpat-{BODY}",
    "huggingface": f"hf_{BODY}",
    "aws-id": "AKIAAB3DEF6HIJ9LMN2P",
    "aws-secret": f"aws_secret_access_key = {BODY}/{BODY}",
    "google": f"AIza{BODY}Ab3dE",
    "slack": f"xoxb-123456789012-{BODY}",
    "slack-hook": f"https://hooks.slack.com/services/T00/B00/{BODY}",
    "stripe": f"sk_live_{BODY}",
    "sendgrid": f"SG.{BODY[:22]}.{BODY}",
    "npm": f"npm_{BODY}Ab3d",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJ{BODY}.{BODY}",
    "bearer": f"Authorization: Bearer {BODY}",
    "basic": f"authorization: Basic {BODY}==",
    "curl": f"curl -H 'X-Api-Key: {BODY}' https://host",
    "cookie": f"Cookie: session={BODY}; theme=dark",
    "url": f"postgresql://app:{BODY}@db.internal:5432/prod",
    "url-token": f"https://{BODY}@git.example.com/repo.git",
    "query": f"https://host/path?api_key={BODY}&page=2",
    "json": json.dumps({"client_secret": BODY}),
    "json-in-json": json.dumps(json.dumps({"password": f"two words {BODY}"})),
    "yaml": f"db_password: '{BODY}'",
    "env": f"export DB_PASSWORD={BODY}",
    "weak-name": f"key = {BODY}",
    "private-key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{BODY}\n{BODY}\n-----END OPENSSH PRIVATE KEY-----",
    "private-key-cut": f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}",
}

PERSONAL = {
    "email": ("write to jane.doe+x@mail.example.co.uk now", "email"),
    "card": ("card 4111 1111 1111 1111 on file", "credit_card"),
    "card-plain": ("card 5500005555555559.", "credit_card"),
    "iban-fr": ("IBAN FR14 2004 1010 0505 0001 3M02 606", "iban"),
    "iban-gb": ("pay GB29NWBK60161331926819 please", "iban"),
    "ssn": ("SSN 536-90-4399 was given", "national_id"),
    "nino": ("NI number AB 12 34 56 C", "national_id"),
    "nir": ("numéro 2 55 08 14 168 025 38", "national_id"),
    "nir-corsica": ("n° 1 84 12 2A 004 023 26", "national_id"),
    "phone-us": ("call (415) 555-2671 today", "phone"),
    "phone-us-e164": ("call +1 415 555 2671 today", "phone"),
    "phone-uk": ("ring 020 7946 0958 at noon", "phone"),
    "phone-uk-mobile": ("ring 07700 900123", "phone"),
    "phone-fr": ("appelez le 06 12 34 56 78", "phone"),
    "phone-fr-e164": ("appelez le +33 6 12 34 56 78", "phone"),
    "ip": ("from 81.2.69.142 at night", "ip_address"),
    "ipv6": ("from 2001:db8:85a3::8a2e:370:7334", "ip_address"),
    "street-us": ("lives at 742 Evergreen Terrace Apt 4", "address"),
    "town-us": ("Springfield, IL 62704", "address"),
    "postcode-uk": ("at SW1A 1AA since May", "address"),
    "street-fr": ("habite 12 bis rue de la Paix", "address"),
    "town-fr": ("75008 Paris, France", "address"),
    "birth-en": ("DOB: 03/07/1984", "birth_date"),
    "birth-gb": ("born on 7th March 1984", "birth_date"),
    "birth-fr": ("née le 7 mars 1984", "birth_date"),
}

FIGURES = (
    "in 2017 , goodwill rose by $ 1,234.5 million ( 12.4 % ) to $ 9,876,543",
    "2013 2014 2015 2016 2017 total 4111 1122 3344 5566",
    "1234567890123456789 0.80 -5.25 1.0e-6 (0.077) +0.077 (0.040) +0.223 (0.038)",
    "beta 1.5.2 of 2026-11-21T22:04:36+00:00, 168:00:00, 10:30",
    "the token count is 12, the key figure: 4,500 and keys to success: growth",
    "bearer bonds and bearer securities of $ 100 million; basic earnings per share : 2.45",
    "25 basis points ; 100 Main ideas ; 5 places ; 10 square feet ; 12 cours",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "trace_550e8400-e29b-41d4-a716-446655440000 call_a1b2c3d4_0",
    "secret to its success , password-free login , secrets of the trade",
    "payment of 4242 to 12 employees ; the 401 k plan ; 10 k ; a 5 / 10 / 15 year term",
    "https://host/path?year=2017&page=2 and user@ and @handle and a@b",
    "notre chiffre d'affaires 2017 : 1 234 567 890 € (+ 4,5 %), soit 12 345 678 titres",
)


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("around", ["{}", "he said: {} and left", '{{"output": "{}"}}'], ids=["alone", "said", "json"])
def test_t8_a_secret_is_found_in_its_usual_forms(secret: str, around: str) -> None:
    shown = redact_text(around.format(secret))
    assert "[secret]" in shown
    assert not any(part in shown for part in (BODY, BODY[:12], BODY[-12:], "AB3DEF6"))


def test_t8_what_stands_around_a_secret_stays() -> None:
    text = f"host=db port=5432 password={BODY} url=https://u:{BODY}@host/a?x=1 end"
    assert redact_text(text) == "host=db port=5432 password=[secret] url=https://[secret]@host/a?x=1 end"
    assert redact_text('{"password": "two words", "n": 1}') == '{"password": "[secret]", "n": 1}'


@pytest.mark.parametrize("spelled", [str, quote, lambda v: json.dumps(v)[1:-1], lambda v: base64.b64encode(v.encode())])
def test_t8_values_of_secret_variables_are_found_however_they_are_spelled(
    spelled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = 'plain "words" with/blanks'
    monkeypatch.setenv("SUPPORT_API_KEY", value)
    found = spelled(value)
    text = found.decode() if isinstance(found, bytes) else found
    assert redact_text(f"it is {text} indeed").startswith("it is [secret]")
    monkeypatch.delenv("SUPPORT_API_KEY")
    assert redact_text("it is plain words") == "it is plain words"


def test_variables_with_paths_words_and_short_values_are_not_searched_for() -> None:
    found = environment_secrets(
        {
            "A_TOKEN": "zq81-x",
            "B_TOKEN": "0",
            "C_PASSWORD": "password",
            "KEY_FILE": "/etc/k",
            "D_KEY": "/run/key",
            "HOME": "x7",
        }
    )
    assert found == ("zq81-x",)


def test_a_value_that_is_made_known_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", set())
    know_secret("opens the gateway", "short")
    assert redact({"a": ["it opens the gateway", "short"]}) == {"a": ["it [secret]", "short"]}


@pytest.mark.parametrize(("text", "kind"), PERSONAL.values(), ids=PERSONAL)
def test_t9_personal_data_are_found_in_the_forms_of_each_locale(text: str, kind: str) -> None:
    shown = redact_text(text)
    assert f"[{kind}]" in shown
    assert findings([text]) == {kind: 1}


@pytest.mark.parametrize(
    ("text", "locale"),
    [("SSN 536-90-4399", "en-US"), ("NI AB 12 34 56 C", "en-GB"), ("n° 2 55 08 14 168 025 38", "fr-FR")],
    ids=["en-US", "en-GB", "fr-FR"],
)
def test_t9_national_numbers_are_those_of_the_locales_asked_for(text: str, locale: str) -> None:
    assert "national_id" in redact_text(text, [locale])
    assert redact_text(text, [each for each in LOCALES if each != locale]) == text
    assert redact_text(text, ["xx-XX"]) == DROPPED
    with pytest.raises(ValueError, match="found 'xx-XX'; allowed: en-US, en-GB, fr-FR"):
        personal_forms(["xx-XX"])


@pytest.mark.parametrize(
    "text",
    [
        "card 4111 1111 1111 1112",
        "IBAN FR15 2004 1010 0505 0001 3M02 606",
        "SSN 666-12-3456",
        "n° 2 55 08 14 168 025 39",
    ],
    ids=["card", "iban", "ssn", "nir"],
)
def test_t9_a_number_with_a_wrong_check_digit_is_a_figure(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize("text", FIGURES)
def test_figures_and_ids_stay(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("password", "short"),
        ("apiKey", "plain words"),
        ("client_secret", 12345),
        ("Authorization", "plain"),
        ("credentials", {"user": "a", "pin": "b"}),
        ("session_token", ["a", "b"]),
        ("key", BODY),
        ("sasToken", BODY),
    ],
)
def test_t8_a_value_goes_whole_where_its_key_names_a_secret(key: str, value: object) -> None:
    assert redact({"kept": 1, key: value}) == {"kept": 1, key: "[secret]"}


@pytest.mark.parametrize(
    "record",
    [
        {"key": "a", "token": "the", "code": "EUR", "tokens_in": 12, "max_tokens": 64, "sort_key": "name"},
        {"api_key_env": "OPENAI_API_KEY", "password": "${DB_PASSWORD}", "secret_name": "db", "token_ids": [1, 2, 3]},
        {"password": None, "has_password": False, "secret": ""},
        {"at": 1_795_299_456.123, "seed": 17, "n": 123_456_789, "big": 1_795_299_456_123_456_789},
    ],
)
def test_ordinary_keys_keep_their_values(record: dict[str, object]) -> None:
    assert redact(record) == record


def test_t9_keys_and_numbers_are_looked_at_too() -> None:
    assert redact({"jane@example.com": {"card": 4111111111111111}}) == {"[email]": {"card": "[credit_card]"}}


def test_t9_what_cannot_be_redacted_is_dropped_and_the_record_stays() -> None:
    deep: Any = "jane@example.com"
    for _ in range(100):
        deep = [deep]
    assert redact({"session_id": "s", "content": deep, "more": object(), "password": "x"}) == {
        "session_id": "s",
        "content": DROPPED,
        "more": DROPPED,
        "password": "[secret]",
    }
    assert redact(deep) == DROPPED


def test_t9_a_recogniser_that_breaks_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError(f"jane@example.com {BODY}")

    monkeypatch.setattr(redaction, "personal_forms", breaks)
    monkeypatch.setattr(redaction, "_FORMS", {})
    assert redact_text("jane@example.com") == DROPPED
    assert redact({"session_id": "s", "text": "jane@example.com"}) == {DROPPED: DROPPED} | {}


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_redaction_never_raises_gives_json_and_is_done_after_once(value: Any) -> None:
    once = redact(value)
    json.dumps(once)
    assert redact(once) == once


@given(st.text(alphabet="ab1- .:@/\"'=sk", max_size=200))
def test_redacted_text_stays_as_it_is(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


HOSTILE = {
    "jwt-starts": "eyJ-",
    "key-starts": "sk-a",
    "assignments": 'password="',
    "begin": "-----BEGIN A",
    "begins": "-----BEGIN RSA PRIVATE KEY----- ",
    "urls": "://a:",
    "at": "a@",
    "dots": "1.",
    "digits": "4",
    "spaced-digits": "4 1",
    "plus": "+1 ",
    "colons": "a:",
    "words": "12 Aa ",
    "letters": "A",
    "slashes": "\\",
    "quotes": "'\"",
    "mails": "a1@example.com ",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_t21_hostile_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    """Four times the text may take up to ten times as long: a square would be sixteen times."""

    def seconds(chars: int) -> float:
        text = (piece * chars)[:chars]
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            redact_text(text)
            best = min(best, time.process_time() - start)
        return best

    short, long = seconds(10_000), seconds(40_000)
    assert long < 10 * short + 0.05


def test_every_form_says_what_a_text_needs_for_it() -> None:
    """A form whose `needs` do not fit would never be asked."""
    for text in SECRETS.values():
        found = [form for form in FORMS if form.pattern.search(text)]
        assert found
        assert all(any(need in text.lower() for need in form.needs) for form in found)


def test_t8_log_lines_are_redacted_with_their_arguments_and_tracebacks() -> None:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler(stream))
    redact_logs(logger)
    redact_logs(logger)
    try:
        raise ValueError(f"https://user:{BODY}@host")
    except ValueError:
        logger.warning("sent %s", {"api_key": BODY}, exc_info=sys.exc_info())
    assert BODY not in stream.getvalue()
    assert "Traceback" in stream.getvalue()
    assert stream.getvalue().count("[secret]") == 3  # the message, the line of the program, the error


def test_t8_a_logger_without_handlers_gets_one_that_redacts(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("test")
    redact_logs(logger)
    logger.warning("sent %s", f"Bearer {BODY}")
    assert capsys.readouterr().err == "WARNING test: sent Bearer [secret]\n"


def test_report_pages_keep_every_figure() -> None:
    """The false positives that the docs speak of: none in the pages of the FinQA example; every fifth is read here."""
    folder = Path(__file__).parents[2] / "examples" / "finqa" / "data"
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.open()]
    texts = [text for line in lines[::5] for text in strings(json.loads(line))]
    assert sum(len(text.split()) for text in texts) > 27967
    assert findings(texts) == {}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)
