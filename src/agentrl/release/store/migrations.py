"""From the tables of an earlier version to this one's, in place, one version at a time, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, inspect, select, text, update

from agentrl.errors import ConfigError
from agentrl.release.store.tables import SCHEMA_VERSION, metadata, schema

STEPS: Mapping[int, Callable[[Connection], None]] = {}
"""By the version that they start from. A step only uses SQL text: the classes of tables are those of today."""
LOCK = 7_305_112_001
"""Of PostgreSQL's advisory locks: replicas that start at once make the tables once."""


def migrate(connection: Connection) -> None:
    """Make what is not there, and change what is of an earlier version.

    Raises:
        ConfigError: the tables are of a later version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": LOCK})
    if not inspect(connection).has_table(schema.name):
        metadata.create_all(connection)
        connection.execute(schema.insert().values(version=SCHEMA_VERSION))
        return
    found = connection.execute(select(schema.c.version)).scalar_one()
    if found > SCHEMA_VERSION:
        raise ConfigError(
            f"release.store: its tables are of version {found}, this agentrl knows up to {SCHEMA_VERSION}; upgrade it"
        )
    for version in range(found, SCHEMA_VERSION):
        STEPS[version](connection)
    if found < SCHEMA_VERSION:
        connection.execute(update(schema).values(version=SCHEMA_VERSION))
