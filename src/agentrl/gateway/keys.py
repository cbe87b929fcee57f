"""Who may ask: API keys of clients, and the admin key."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentrl.addresses import asked_host, is_loopback
from agentrl.config import GatewayConfig
from agentrl.errors import ConfigError
from agentrl.gateway.errors import ApiError
from agentrl.monitoring.redaction import know_secret

MIN_KEY_CHARS = 16
"""A shorter key is guessed, or left over from an example."""


@dataclass(frozen=True)
class Keys:
    """Digests of the keys: compared in constant time, each against all, and never shown."""

    clients: Mapping[bytes, str] = field(repr=False)
    admin: bytes | None = field(repr=False)

    @classmethod
    def read(cls, config: GatewayConfig) -> Keys:
        """The keys of the environment.

        Raises:
            ConfigError: one is not set, too short, or two clients have the same; no key is shown.
        """
        clients: dict[bytes, str] = {}
        for key in config.api_keys:
            digest = _digest(_key(f"gateway.api_keys ({key.name})", key.env))
            if digest in clients:
                raise ConfigError(f"gateway.api_keys: {clients[digest]} and {key.name} have the same key")
            clients[digest] = key.name
        name = config.admin_key_env
        admin = _digest(_key("gateway.admin_key_env", name)) if name else None
        if admin in clients:
            raise ConfigError("gateway.admin_key_env: the admin key is a client's too; give it one of its own")
        return cls(clients, admin)

    def client(self, headers: Mapping[str, str]) -> str:
        """The client's name; empty where no keys are asked for.

        Raises:
            ApiError: 401 without a right key; 403 where none is asked for and another host's name was used.
        """
        if not self.clients:  # a page in a browser may give this machine's address a name of its own
            if not is_loopback(asked_host([headers.get("host", "")])):
                message = (
                    f"Found the host {headers.get('host', '')!r:.80}; without API keys only localhost is answered."
                )
                raise ApiError(403, message, code="unknown_host")
            return ""
        given = _digest(headers.get("authorization", "").removeprefix("Bearer ").strip())
        name = None
        for digest, client in self.clients.items():
            if hmac.compare_digest(digest, given):
                name = client
        if name is None:
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key", kind="authentication_error")
        return name

    def is_admin(self, given: str) -> bool:
        """Whether a text is the admin key."""
        return self.admin is not None and hmac.compare_digest(self.admin, _digest(given))


def refuse_open_doors(config: GatewayConfig) -> None:
    """What other machines can reach asks for a key.

    Raises:
        ConfigError: it does not, and nobody said that it may be so.
    """
    if not is_loopback(config.host) and not config.api_keys and not config.allow_public_without_key:
        raise ConfigError(
            f"gateway.host: found {config.host}, which other machines can reach, and no gateway.api_keys; "
            "name some, listen on 127.0.0.1, or set allow_public_without_key: true behind a proxy that asks for keys"
        )
    if not is_loopback(config.admin_host) and config.admin_key_env is None:
        raise ConfigError(
            f"gateway.admin_host: found {config.admin_host}, which other machines can reach, and no "
            "gateway.admin_key_env; name the variable with the key, or listen on 127.0.0.1"
        )


def upstream_key(config: GatewayConfig, name: str) -> str:
    """The API key of an upstream; empty where it asks for none.

    Raises:
        ConfigError: its variable is not set.
    """
    variable = config.upstreams[name].key_env
    return _value(f"gateway.upstreams.{name}.key_env", variable) if variable else ""


def _key(where: str, variable: str) -> str:
    value = _value(where, variable)
    if len(value) < MIN_KEY_CHARS:
        raise ConfigError(f"{where}: the key in {variable} has fewer than {MIN_KEY_CHARS} characters")
    return value


def _value(where: str, variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"{where}: the environment variable {variable} is not set, or empty")
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(f"{where}: the key in {variable} has characters that no header may have")
    if len(value) >= MIN_KEY_CHARS:  # a short one is a word such as EMPTY
        know_secret(value)  # whatever its variable is called
    return value


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
