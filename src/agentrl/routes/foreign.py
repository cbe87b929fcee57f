"""What a declaration in a request may not say: whoever sends it is not whoever started the server.

It must not read the server's files, its environment or its keys, nor reach what only the server can reach, nor choose
how its code is locked up. A kind or a key that is not listed here is the server owner's to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from agentrl.addresses import is_loopback
from agentrl.config.graders import EndpointConfig, GraderSection, with_parts
from agentrl.config.section import Section
from agentrl.errors import ConfigError

HARMLESS = frozenset(
    {
        "string_check",
        "text_similarity",
        "numeric",
        "json_schema",
        "tool_use",
        "policy_check",
        "efficiency",
        "multi",
    }
)
"""Kinds that work on what they are given alone."""
ASKING = frozenset({"model", "input", "sampling_params"})
ALLOWED: Mapping[str, frozenset[str]] = {
    "python": frozenset({"source", "image_tag", "on_error"}),
    "endpoint": frozenset({"url", "headers", "rate_limit", "timeout_seconds", "max_requests_per_second", "retries"}),
    "score_model": ASKING | {"range"},
    "label_model": ASKING | {"labels", "passing_labels"},
    "rubric": ASKING | {"version", "criteria", "ask"},
}
"""Keys of the other kinds that a request may set; a kind that is missing here is not carried out for one."""
ALLOWED_OF_ALL = frozenset({"type", "name", "pass_threshold"})
ALLOWED_OF_A_JUDGE = frozenset({"structured_output", "delimit", "on_parse_error"})


def refuse_foreign(grader: GraderSection, *, may_call_loopback: bool) -> None:
    """Check a declaration that came in a request.

    Args:
        may_call_loopback: the server is reached from its own machine alone.

    Raises:
        ConfigError: it says what only the server's owner may say; the first such place is named.
    """
    for place, part in with_parts(grader):
        for path, message in _problems(part, may_call_loopback):
            raise ConfigError(f"grader: {place}{path}: {message}")


def refuse_foreign_address(url: str, headers: Mapping[str, str], *, may_call_loopback: bool) -> None:
    """The same of a tool's address.

    Raises:
        ConfigError: it says what only the server's owner may say.
    """
    for path, message in _address_problems("server_url", url, headers, may_call_loopback):
        raise ConfigError(f"{path}: {message}")


def _problems(part: GraderSection, may_call_loopback: bool) -> Iterator[tuple[str, str]]:
    kind = str(getattr(part, "type", ""))
    if kind not in HARMLESS:
        allowed = ALLOWED_OF_ALL | ALLOWED.get(kind, frozenset())
        for key in chosen(part) - allowed:
            value = getattr(part, key)
            if key == "judge" and kind in ALLOWED:
                yield from ((f"judge.{each}", OWNERS) for each in sorted(chosen(value) - ALLOWED_OF_A_JUDGE))
            else:
                yield key, OWNERS
    if isinstance(part, EndpointConfig):
        yield from _address_problems("url", part.url, part.headers, may_call_loopback)


OWNERS = "found in a request; only whoever starts the server may say it (agentrl grader serve --trust-requests)"


def chosen(section: Section) -> set[str]:
    """Keys whose values are not the defaults: the long form of a declaration says no more than the short one."""
    fields = type(section).model_fields

    def is_default(key: str) -> bool:
        default: Any = fields[key].get_default(call_default_factory=True, validated_data={})
        return bool(getattr(section, key) == default)

    return {key for key in fields if not is_default(key)}


def _address_problems(
    key: str, url: str, headers: Mapping[str, str], may_call_loopback: bool
) -> Iterator[tuple[str, str]]:
    if "{serve}" in url:
        yield key, "found {serve}, which stands for nothing here; allowed: an address"
        return
    host = urlsplit(url).hostname or ""
    if not may_call_loopback and is_loopback(host):
        yield key, f"found {host}, the server's own machine; {OWNERS}"
    for header, value in headers.items():
        if "${" in value:
            yield f"headers.{header}", f"found a variable of the environment, which is the server's; {OWNERS}"
