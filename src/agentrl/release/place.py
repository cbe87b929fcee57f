"""Where a workflow's releases are kept: the folder and the database that its config names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from agentrl.config import RunConfig
from agentrl.errors import ConfigError
from agentrl.release.store import Store, open_store

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class ReleasePlace:
    """A workflow's folder and database."""

    workflow: str
    folder: Path
    store: Store

    @property
    def audit_log(self) -> Path:
        """Every transition, one a line, hash-chained: the truth that the tables are made of."""
        return self.folder / "audit.jsonl"

    @property
    def blobs(self) -> Path:
        """Files of bundles by digest."""
        return self.folder / "blobs"


def open_place(config: RunConfig) -> ReleasePlace:
    """The folder, made where it is missing, and the database.

    Raises:
        ConfigError: the config has no `release` section, or names a variable that is not set.
        ReleaseError: the database cannot be reached.
    """
    if config.release is None:
        raise ConfigError("the config has no `release` section; the shortest: `release: {gates: [...]}`")
    folder = Path(config.release.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"release.folder: {folder} cannot be made ({error.strerror})") from None
    return ReleasePlace(config.workflow.target, folder, open_store(store_url(config)))


def store_url(config: RunConfig) -> str:
    """The database's URL, with what the environment has in it: it may hold a password.

    Raises:
        ConfigError: the config has no `release` section, or names a variable that is not set.
    """
    if config.release is None:
        raise ConfigError("the config has no `release` section; the shortest: `release: {gates: [...]}`")
    url = config.release.store or f"sqlite:///{Path(config.release.folder) / 'release.db'}"
    return VARIABLE.sub(_value, url)


def _value(found: re.Match[str]) -> str:
    value = os.environ.get(found[1])
    if value is None:
        raise ConfigError(f"release.store: the environment variable {found[1]} is not set")
    return value
