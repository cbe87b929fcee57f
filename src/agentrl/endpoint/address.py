"""Where a request goes and what it carries: URLs that may be called, header values from the environment."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from agentrl.addresses import host_problem
from agentrl.errors import ConfigError

logger = logging.getLogger(__name__)

SERVE = "{serve}"
VARIABLE = re.compile(r"\$\{([^}]*)\}")
SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".svc")
MIN_SECRET_CHARS = 6
"""Shorter values are not struck out of messages: `0` would strike out every zero."""


@dataclass(frozen=True)
class Headers:
    """Header values as sent. Neither the values nor the secrets show in a repr."""

    values: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    """What must never stand in a message, longest first."""


def resolve_headers(name: str, headers: Mapping[str, str]) -> Headers:
    """Replace `${NAME}` from the environment.

    Raises:
        ConfigError: an unset or empty variable, or a value that no header can hold; the value is not shown.
    """
    values: dict[str, str] = {}
    secrets: set[str] = set()
    for header, template in headers.items():
        where = f"{name}: header {header!r}"
        if not HEADER_NAME.fullmatch(header):
            raise ConfigError(f"{where}: found a name with characters that no header name may have")
        for variable in VARIABLE.findall(template):
            if not (value := os.environ.get(variable)):
                state = "not set" if value is None else "empty"
                raise ConfigError(f"{where}: the environment variable {variable!r} is {state}; set it and start again")
            secrets.add(value)
        value = VARIABLE.sub(lambda match: os.environ[match.group(1)], template)
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"{where}: its value holds a line break or another character that no header may have")
        if SECRET_HEADER.search(header):
            secrets.add(value)
        values[header] = value
    quoted = {json.dumps(secret)[1:-1] for secret in secrets}
    secrets |= quoted | {secret.replace("/", "\\/") for secret in quoted}  # as servers write them into JSON
    kept = sorted((secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS), key=len, reverse=True)
    return Headers(values, tuple(kept))


def strike_out(value: Any, secrets: Sequence[str]) -> Any:
    """The value with `[secret]` for each secret, in every text of a parsed body."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "[secret]")
        return value
    if isinstance(value, list):
        return [strike_out(each, secrets) for each in value]
    if isinstance(value, dict):
        return {strike_out(key, secrets): strike_out(each, secrets) for key, each in value.items()}
    return value


def served_url(name: str, url: str, base_url: str) -> str:
    """The URL with `{serve}` replaced by the base URL of the served process.

    Raises:
        ConfigError: the URL needs a served process and there is none.
    """
    if SERVE in url and not base_url:
        raise ConfigError(f"{name}: found {url!r}, but no server is started; allowed: http:// or https://")
    return url.replace(SERVE, base_url)


def usable_url(name: str, url: str, *, has_secrets: bool, allow_private: bool = True) -> httpx.URL:
    """The URL, if it may be called.

    Plain http is for this machine and private networks; elsewhere it is refused where a header holds a secret and
    warned about where none does. `allow_private` is about the host as it is written, see `agentrl.addresses`.

    Raises:
        ConfigError: it may not; the message does not show a password or a query.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigError(f"{name}: found a url that cannot be read ({error}); allowed: https://host/path") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        shown = f"{parsed.scheme or '(no scheme)'}://{parsed.host or '(no host)'}"
        raise ConfigError(f"{name}: found a url with {shown}; allowed: http://host or https://host")
    if parsed.userinfo:
        raise ConfigError(f"{name}: found a user name or password in the url; put credentials into headers")
    if problem := host_problem(parsed.host, allow_private=allow_private):
        raise ConfigError(f"{name}: {problem}")
    if parsed.scheme == "http" and not is_local(parsed.host):
        if has_secrets:
            raise ConfigError(f"{name}: its headers would travel in clear text to {parsed.host}; use https://")
        logger.warning("%s: http:// to %s is neither encrypted nor authenticated; use https://", name, parsed.host)
    return parsed


def is_local(host: str) -> bool:
    """Whether the host is this machine or in a private network, going by its name or address alone."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name or name.endswith(LOCAL_SUFFIXES)
