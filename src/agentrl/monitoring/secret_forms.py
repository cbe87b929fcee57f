"""What keys, tokens and passwords look like: their issuers' forms, their place after a name, values of the environment.

Every pattern reads a text in linear time: it starts where a run of characters starts, or is bounded.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from agentrl.config.tracking import SECRET_NAME

MIN_ENVIRONMENT_CHARS = 6
"""Shorter values of the environment are not searched for: `0` would be found everywhere."""
MIN_RANDOM_CHARS, MIN_RANDOM_BITS = 16, 3.0
"""From where on what stands behind a weak name, such as `key`, is a secret: characters, and bits of entropy a character
(Shannon, of the value's own characters). English words have less than three bits at this length, keys more."""

STRONG_NAME = (
    r"passwords?|passwd|passphrase|pwd|secrets?|api[-_ ]?keys?|apikey|access[-_ ]?keys?|account[-_ ]?key|"
    r"private[-_ ]?keys?|signing[-_ ]?key|encryption[-_ ]?key|functions[-_ ]?key|subscription[-_ ]?key|"
    r"(?:access|auth|bearer|refresh|session|id|security|personal)[-_ ]?token|credentials?"
)
WEAK_NAME = r"key|token|auth|sig|signature|hmac|salt|nonce|sas|sid|code"
STRONG = re.compile(rf"(?:^|[^a-z])(?:{STRONG_NAME}|authorization|set[-_]cookie|cookie)(?:$|[^a-z])", re.IGNORECASE)
WEAK = re.compile(rf"(?:^|[^a-z])(?:{WEAK_NAME})$", re.IGNORECASE)
HARMLESS_ENDING = re.compile(
    r"(?:env|name|names|names?_of|id|ids|count|file|path|digest|sha256|version)$", re.IGNORECASE
)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
REFERENCE = re.compile(r"\$\{[A-Za-z_]\w*\}|\*{3,}|\[[a-z_]+\]")
"""In the place of a secret already."""


@dataclass(frozen=True)
class SecretForm:
    """One way in which secrets are recognised."""

    pattern: re.Pattern[str]
    """What is in the group `keep` stays: the name before a value. What is in `value` is looked at; without it, all."""
    needs: tuple[str, ...]
    """One of these stands in any text, in lower case, that the pattern finds something in; saves most of the work."""
    is_real: Callable[[str], bool] = lambda _: True


def is_random(text: str) -> bool:
    """Whether a value behind a weak name looks made by a machine: long, with digits and letters, without a pattern."""
    if len(text) < MIN_RANDOM_CHARS or text.isalpha() or not any(map(str.isalpha, text)):
        return False
    counts = Counter(text).values()
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
    return bits >= MIN_RANDOM_BITS and any(map(str.isdigit, text))


def _is_no_word(text: str) -> bool:
    """`Bearer bonds` are securities."""
    return not text.isalpha() or (len(text) >= 20) or not (text.islower() or text.istitle())


def _is_written_out(text: str) -> bool:
    """Not a reference to a secret, as in `password: ${DB_PASSWORD}`, nor a word that says that there is none."""
    bare = text.strip("\\\"' ")
    return not REFERENCE.fullmatch(bare) and bare.lower() not in ("null", "none", "true", "false", "undefined")


VALUE = r"""(?P<value>\\?"[^"\n]{1,1024}"|\\?'[^'\n]{1,1024}'|[^\s"'\\,;&<>(){}\[\]]{4,1024}+(?![(\[]))"""
"""In quotes, or up to a blank and no call of a function; possessive, so that nothing is tried twice."""

FORMS: tuple[SecretForm, ...] = (
    SecretForm(
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
            r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
            re.DOTALL,
        ),
        ("private key",),
    ),
    SecretForm(  # scheme://user:password@host; of a URL with a user alone, the user may be a token
        re.compile(r"(?P<keep>://)(?P<value>[^/\s:@\"'<>]{0,256}:[^/\s@\"'<>]{1,256}|[\w.~+-]{16,256})(?=@)"),
        ("://",),
    ),
    SecretForm(
        re.compile(r"(?P<keep>\b(?:bearer|basic|apikey)\s{1,3})(?P<value>[\w.~+/=-]{6,}+)", re.IGNORECASE),
        ("bearer", "basic", "apikey"),
        _is_no_word,
    ),
    SecretForm(  # OpenAI, Anthropic, OpenRouter, Stripe, webhooks
        re.compile(r"(?<![\w-])(?:sk|pk|rk|whsec)[-_][\w-]{12,}+"), ("sk", "pk", "rk", "whsec")
    ),
    SecretForm(
        re.compile(
            r"(?<![\w-])(?:"
            r"gh[oprsu]_\w{12,}+|github_pat_\w{12,}+|gl(?:pat|dt|rt|cbt)-[\w-]{12,}+|"
            r"hf_[A-Za-z0-9]{12,}+|gsk_\w{16,}+|xai-\w{16,}+|r8_\w{16,}+|pplx-\w{16,}+|nvapi-[\w-]{16,}+|"
            r"tvly-[\w-]{12,}+|lsv2_[\w-]{16,}+|fw_\w{16,}+|csk-\w{16,}+|"
            r"npm_\w{30,}+|pypi-[\w-]{16,}+|dckr_pat_[\w-]{16,}+|"
            r"dop_v1_\w{32,}+|dapi[0-9a-f]{32}+|sbp_\w{20,}+|lin_api_\w{16,}+|ntn_\w{16,}+|"
            r"shp(?:at|ca|pa|ss)_\w{16,}+|hv[sb]\.[\w-]{16,}+|dp\.(?:pt|st|sa)\.[\w.-]{16,}+|"
            r"ya29\.[\w-]{16,}+|GOCSPX-[\w-]{16,}+|AIza[\w-]{30,}+|"
            r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}+|"
            r"xox[abeoprs]-[\w-]{10,}+|xapp-[\w-]{10,}+|"
            r"SG\.[\w-]{16,}+\.[\w-]{16,}+|key-[0-9a-f]{32}+|SK[0-9a-f]{32}+|"
            r"AGE-SECRET-KEY-1[0-9A-Z]{16,}+|\d{8,10}:AA[\w-]{30,}+|"
            r"eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?"
            r")(?![\w])"
        ),
        (
            *("gh", "github", "gl", "hf_", "gsk_", "xai-", "r8_", "pplx-", "nvapi-", "tvly-", "lsv2_", "fw_", "csk-"),
            *("npm_", "pypi-", "dckr_", "dop_", "dapi", "sbp_", "lin_", "ntn_", "shp", "hvs.", "hvb.", "dp.", "ya29."),
            *(
                "gocspx",
                "aiza",
                "akia",
                "asia",
                "abia",
                "acca",
                "xox",
                "xapp",
                "sg.",
                "key-",
                "sk",
                "age-",
                ":aa",
                "ey",
            ),
        ),
    ),
    SecretForm(
        re.compile(
            r"(?P<keep>hooks\.slack\.com/(?:services|workflows)/|discord(?:app)?\.com/api/webhooks/)[\w/-]{10,}+"
        ),
        ("slack.com", "discord"),
    ),
    SecretForm(
        re.compile(
            r"(?P<keep>\bauthorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?(?:(?:bearer|basic|token|digest|apikey)\s{1,3})?)"
            r"(?P<value>[^\s\"'\\,;<>]{4,2048}+)",
            re.IGNORECASE,
        ),
        ("authorization",),
        _is_written_out,
    ),
    SecretForm(
        re.compile(
            r"(?P<keep>\b(?:set-)?cookie\\?[\"']?:\s{0,3})(?P<value>[^\s=]{1,64}=[^\r\n\"']{4,4096})", re.IGNORECASE
        ),
        ("cookie",),
    ),
    SecretForm(
        re.compile(
            rf"(?P<keep>(?<![a-z])(?:{STRONG_NAME})(?![a-z])(?![\w-]{{0,16}}(?:_env|_name|_header|_file|_path|_id)\b)[\w-]{{0,16}}\\?[\"']?\s{{0,3}}(?::=|=>|[:=])\s{{0,3}}){VALUE}",
            re.IGNORECASE,
        ),
        ("pass", "pwd", "secret", "key", "token", "credential"),
        _is_written_out,
    ),
    SecretForm(
        re.compile(
            rf"(?P<keep>(?<![a-z])(?:{WEAK_NAME})\\?[\"']?\s{{0,3}}(?::=|=>|[:=])\s{{0,3}}\\?[\"']?)"
            r"(?P<value>[\w.~+/=%-]{16,1024}+)",
            re.IGNORECASE,
        ),
        ("key", "token", "auth", "sig", "hmac", "salt", "nonce", "sas", "sid", "code"),
        is_random,
    ),
)


@lru_cache(maxsize=4096)
def names_a_secret(name: str) -> bool:
    """Whether values of this key are never told, whatever they look like."""
    spaced = CAMEL.sub("_", name)
    return bool(STRONG.search(spaced)) and not HARMLESS_ENDING.search(spaced)


@lru_cache(maxsize=4096)
def may_name_a_secret(name: str) -> bool:
    """Whether values of this key are told unless they look random."""
    return bool(WEAK.search(CAMEL.sub("_", name)))


def environment_secrets(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Values of variables whose names say secret, long enough to be searched for; longest first."""
    source = os.environ if environment is None else environment
    found = {
        value
        for value in (source[name] for name in source if _is_secret_variable(name))
        if len(value) >= MIN_ENVIRONMENT_CHARS and not _is_common(value)
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


@lru_cache(maxsize=16)
def literal_forms(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds these values as they are, and as JSON, a URL or base64 has them; None of no values."""
    spelled = {form for secret in secrets for form in _spellings(secret)}
    ordered = sorted(spelled, key=lambda form: (-len(form), form))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


@lru_cache(maxsize=4096)
def _is_secret_variable(name: str) -> bool:
    return bool(SECRET_NAME.search(name)) or names_a_secret(name)


def _is_common(value: str) -> bool:
    """A path or a plain word would blank half a text out."""
    return value.startswith(("/", "./", "~/")) or (value.isalpha() and value.islower()) or value.isdecimal()


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield from (quote(secret), quote(secret, safe=""))
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
