"""Headers and addresses of a job without their secrets: `${NAME}` in place of each, and the names to set.

What is written to a file or a screen never holds a value of a header, but for the few that are known to be harmless.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from agentrl.errors import ConfigError

HARMLESS = re.compile(r"(accept(-.*)?|content-type|user-agent|connection|cache-control)", re.IGNORECASE)
"""Headers whose values may be written out; of any other, nobody knows."""
REFERENCE = re.compile(r"((?:Bearer|Basic|Token|ApiKey) +)?\$\{[A-Za-z_]\w*\}", re.IGNORECASE)
"""A value that names a variable already."""
SCHEME = re.compile(r"(Bearer|Basic|Token|ApiKey) +(?=\S)", re.IGNORECASE)
SECRET_IN_URL = re.compile(r"code|sig|signature|.*(key|token|secret|password|auth).*", re.IGNORECASE)
MIN_CHARS = 6
"""Shorter values are not searched for in what is written: `0` would be found everywhere."""


@dataclass
class Variables:
    """The secrets of a job under the names of environment variables; equal secrets share one."""

    source: str
    """The job's file, for messages."""
    names: dict[str, str] = field(default_factory=dict, repr=False)
    """Secret -> name."""
    uses: dict[str, list[str]] = field(default_factory=dict)
    """Name -> the headers that refer to it, such as "Authorization of search"."""
    shared: set[str] = field(default_factory=set, repr=False)
    """Secrets that several endpoints have in common, which are named after none of them."""
    of_the_job: set[str] = field(default_factory=set)
    """Names that the job itself refers to, as `${NAME}`."""

    def note_shared(self, headers: Iterable[Mapping[str, str] | None]) -> None:
        """Look at the headers of all endpoints, before any is rewritten."""
        seen = Counter(secret for each in headers for secret in {_parts(value)[1] for value in (each or {}).values()})
        self.shared = {secret for secret, count in seen.items() if count > 1}

    def headers(self, headers: Mapping[str, Any] | None, owner: str) -> dict[str, str]:
        """The headers of a tool or a grader, each secret replaced by `${NAME}`."""
        kept: dict[str, str] = {}
        for header, given in (headers or {}).items():
            value = str(given)
            if HARMLESS.fullmatch(header) and "${" not in value:
                kept[header] = value
                continue
            if REFERENCE.fullmatch(value):
                name = re.sub(r".*\$\{|\}", "", value)
                self.of_the_job.add(name)
                self._note(name, header, owner)
                kept[header] = value
                continue
            prefix, secret = _parts(value)
            kept[header] = f"{prefix}${{{self._name(secret, header, owner)}}}"
        return kept

    def address(self, url: str, headers: dict[str, str], owner: str) -> str:
        """The address without a key in its query: that of an Azure function goes into the header that it reads too.

        Raises:
            ConfigError: another secret stands in it; no value is shown.
        """
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query, keep_blank_values=True)
            # some servers part a query at semicolons; what stands behind # is not even sent
            elsewhere = parse_qsl(f"{parts.query}&{parts.fragment}".replace(";", "&"))
        except ValueError:
            return url  # the config's own check says what is wrong with it
        secret = [(key, value) for key, value in query if SECRET_IN_URL.fullmatch(key) and value]
        hidden = [(key, value) for key, value in elsewhere if SECRET_IN_URL.fullmatch(key) and value]
        secret = hidden if len(hidden) > len(secret) else secret
        if not secret:
            return url
        found = f"found {', '.join(key for key, _ in secret)} in its address (not shown)"
        if [key for key, _ in secret] != ["code"] or secret[0] not in query:
            raise ConfigError(
                f"{self.source}: {owner}: {found}; allowed: secrets in headers, where a variable can replace them"
            )
        if header := next((key for key in headers if key.lower() == "x-functions-key"), None):
            raise ConfigError(
                f"{self.source}: {owner}: {found} beside the header {header}, which is the same key; keep the header"
            )
        headers.update(self.headers({"x-functions-key": secret[0][1]}, owner))
        left = [(key, value) for key, value in query if key != "code"]
        return urlunsplit(parts._replace(query=urlencode(left)))

    def refuse_if_in(self, text: str) -> None:
        """A last look at what is about to be written.

        Raises:
            ConfigError: a secret stands in it all the same, perhaps in a grader's source or in metadata.
        """
        found = [name for secret, name in self.names.items() if len(secret) >= MIN_CHARS and secret in text]
        if found:
            where = ", ".join(self.uses[found[0]])
            raise ConfigError(
                f"{self.source}: the secret that would be ${{{found[0]}}} ({where}) also stands in another part of the "
                "job; take it out there, so that it is not copied"
            )

    def _name(self, secret: str, header: str, owner: str) -> str:
        if secret not in self.names:
            what = "TOKEN" if header.lower() in ("authorization", "proxy-authorization") else header
            wanted = _as_variable(
                f"{'tools' if secret in self.shared else owner}_{re.sub(r'^x[-_]', '', what, flags=re.IGNORECASE)}"
            )
            name, number = wanted, 2
            while name in self.uses:
                name, number = f"{wanted}_{number}", number + 1
            self.names[secret] = name
        self._note(self.names[secret], header, owner)
        return self.names[secret]

    def _note(self, name: str, header: str, owner: str) -> None:
        uses = self.uses.setdefault(name, [])
        if (use := f"{header} of {owner}") not in uses:
            uses.append(use)


def _parts(value: str) -> tuple[str, str]:
    """`Bearer ` and the rest, which is the secret."""
    scheme = SCHEME.match(value)
    prefix = scheme[0] if scheme else ""
    return prefix, value[len(prefix) :]


def _as_variable(text: str) -> str:
    name = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    return name if name[:1].isalpha() else f"V_{name}"


def without_headers(value: Any) -> Any:
    """A row or a tool as it may be compared and shown: no header values."""
    if isinstance(value, dict):
        return {key: without_headers(each) for key, each in value.items() if key != "headers"}
    return [without_headers(each) for each in value] if isinstance(value, list) else value
