"""The rules that a release is judged by: its config's sections as they were when it was started."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from agentrl.config import RunConfig
from agentrl.config.gateway import UpstreamConfig
from agentrl.config.monitoring import MonitoringConfig
from agentrl.config.release import ReleaseConfig
from agentrl.errors import ConfigError
from agentrl.release.records import Release
from agentrl.strict_json import canonical_json


def frozen_rules(config: RunConfig) -> dict[str, Any]:
    """The sections `release`, `monitoring` and `gateway` in full, as JSON; secrets are names of variables in them.

    Raises:
        ConfigError: a section is missing.
    """
    if config.release is None:
        raise ConfigError("the config has no `release` section; the shortest: `release: {gates: [...]}`")
    if config.gateway is None:
        raise ConfigError("the config has no `gateway` section: it names the servers of the baseline and the candidate")
    rules: dict[str, Any] = {"release": config.release.model_dump(mode="json")}
    rules["release"].pop("store")  # where it is kept is no rule, and a URL may hold a password
    rules["monitoring"] = None if config.monitoring is None else config.monitoring.model_dump(mode="json")
    rules["gateway"] = config.gateway.model_dump(mode="json")
    return rules


def rules_of(release: Release) -> ReleaseConfig:
    """Its own `release` section."""
    return ReleaseConfig.model_validate(release.config["release"])


def monitoring_of(release: Release) -> MonitoringConfig | None:
    """Its own `monitoring` section."""
    found = release.config.get("monitoring")
    return None if found is None else MonitoringConfig.model_validate(found)


def upstream_of(release: Release, name: str) -> UpstreamConfig:
    """A server by name, as it was when the release was started.

    Raises:
        ConfigError: the config had none of that name.
    """
    upstreams: Mapping[str, Any] = release.config["gateway"]["upstreams"]
    if name not in upstreams:
        raise ConfigError(f"gateway.upstreams: found '{name}'; allowed: {', '.join(upstreams)}")
    return UpstreamConfig.model_validate(upstreams[name])


def rules_digest(release: Release) -> str:
    """Of all of them: an approval is given under these."""
    return f"sha256:{hashlib.sha256(canonical_json(dict(release.config))).hexdigest()}"
