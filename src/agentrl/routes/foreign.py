"""What a declaration in a request may not say: whoever sends it is not whoever started the server.

It must not read the server's files, its environment or its keys, nor reach what only the server can reach. Code runs in
the sandbox, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from agentrl.addresses import is_this_machine, plain_address
from agentrl.config.graders import EndpointConfig, GraderSection, MultiConfig
from agentrl.config.section import Section
from agentrl.errors import ConfigError

SERVERS_OWN: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("allow_private",),
    "score_model": ("judge",),
    "label_model": ("judge",),
    "rubric": ("judge", "rubric"),
    "reward_model": ("path",),
}
"""By kind: keys that name an address, a key or a file of the server. What is not written is the server's choice."""
ALLOWED_OF_A_JUDGE = frozenset({"model", "structured_output", "delimit", "parse_retries", "on_parse_error"})


def refuse_foreign(grader: GraderSection, *, may_call_loopback: bool) -> None:
    """Check a declaration that came in a request.

    Args:
        may_call_loopback: the server is reached from its own machine alone.

    Raises:
        ConfigError: it says what only the server's owner may say; the first such place is named.
    """
    for place, part in _parts(grader):
        for path, message in _problems(part, may_call_loopback):
            raise ConfigError(f"grader: {place}{path}: {message}")


def refuse_foreign_address(url: str, headers: Mapping[str, str], *, may_call_loopback: bool) -> None:
    """The same of a tool's address.

    Raises:
        ConfigError: it says what only the server's owner may say.
    """
    for path, message in _address_problems("server_url", url, headers, may_call_loopback):
        raise ConfigError(f"{path}: {message}")


def _parts(grader: GraderSection) -> Iterator[tuple[str, GraderSection]]:
    yield "", grader
    if isinstance(grader, MultiConfig):
        for name, part in grader.graders.items():
            yield f"graders.{name}.", part


def _problems(part: GraderSection, may_call_loopback: bool) -> Iterator[tuple[str, str]]:
    kind = str(getattr(part, "type", ""))
    for key in SERVERS_OWN.get(kind, ()):
        value = getattr(part, key, None)
        if isinstance(value, Section):
            fields = type(value).model_fields
            named = [
                each for each in fields if each not in ALLOWED_OF_A_JUDGE and _is_chosen(value, each, fields[each])
            ]
            yield from ((f"{key}.{each}", _OWNERS) for each in named)
        elif _is_chosen(part, key, type(part).model_fields[key]):
            yield key, _OWNERS
    if isinstance(part, EndpointConfig):
        yield from _address_problems("url", part.url, part.headers, may_call_loopback)


_OWNERS = "found in a request; only whoever starts the server may say it (agentrl grader serve --trust-requests)"


def _is_chosen(section: Section, key: str, info: FieldInfo) -> bool:
    value: Any = getattr(section, key)
    return bool(value != info.get_default(call_default_factory=True, validated_data={}))


def _address_problems(
    key: str, url: str, headers: Mapping[str, str], may_call_loopback: bool
) -> Iterator[tuple[str, str]]:
    from urllib.parse import urlsplit

    if "{serve}" in url:
        yield key, "found {serve}, which stands for nothing here; allowed: an address"
        return
    host = urlsplit(url).hostname or ""
    address = plain_address(host)
    if not may_call_loopback and (is_this_machine(host) or (address is not None and address.is_loopback)):
        yield key, f"found {host}, the server's own machine; {_OWNERS}"
    for header, value in headers.items():
        if "${" in value:
            yield f"headers.{header}", f"found a variable of the environment, which is the server's; {_OWNERS}"
