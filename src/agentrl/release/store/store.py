"""A database by its URL, its tables made or moved to this version; one transaction at a time on SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.store.migrations import migrate

BUSY_SECONDS = 30.0
"""How long a writer waits for another one."""


@dataclass(frozen=True)
class Store:
    """The database of releases. Safe to use from several threads, processes and, with PostgreSQL, machines."""

    engine: Engine = field(repr=False)
    name: str
    """As messages show it: no password."""

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file on this machine."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that changes something: all of it happens, or nothing.

        Raises:
            ReleaseError: the database cannot be reached or written.
        """
        with self._named_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one state of the database.

        Raises:
            ReleaseError: the database cannot be read.
        """
        with self._named_errors(), self.engine.connect() as connection:
            if self.is_sqlite:  # the engine's own beginning would ask for the writer's place
                connection = connection.execution_options(agentrl_reads_only=True)
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def insert(self, table: Any) -> Any:
        """An INSERT that knows ON CONFLICT."""
        return (sqlite if self.is_sqlite else postgresql).insert(table)

    def close(self) -> None:
        """Give its connections back."""
        self.engine.dispose()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise ReleaseError(f"{self.name}: {_first_line(error)}") from error


def open_store(url: str) -> Store:
    """The database at an SQLAlchemy URL, `sqlite:///releases/release.db` or `postgresql://user@host/name`.

    Raises:
        ConfigError: it is no such URL, or its tables are of a later version of agentrl.
        ReleaseError: the database cannot be reached.
    """
    try:
        address = make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        if address.drivername not in ("sqlite", "postgresql+psycopg"):
            raise ConfigError(f"release.store: found '{address.drivername}'; allowed: sqlite:///FILE, postgresql://...")
        if address.drivername == "sqlite" and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            address,
            pool_pre_ping=address.drivername != "sqlite",
            connect_args={"timeout": BUSY_SECONDS} if address.drivername == "sqlite" else {"connect_timeout": 5},
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"release.store: {_first_line(error)}; allowed: sqlite:///FILE, postgresql://...") from None
    if engine.dialect.name == "sqlite":
        _set_up_sqlite(engine)
    store = Store(engine, address.render_as_string(hide_password=True))
    with store.write() as connection:
        migrate(connection)
    return store


def _set_up_sqlite(engine: Engine) -> None:
    """WAL, so that readers do not wait for the writer; a writer takes its place at once, not when it first writes."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver's own idea of when a transaction begins
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get("agentrl_reads_only")
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _first_line(error: Exception) -> str:
    """What went wrong, without the statement and its values, nor a password."""
    reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return re.sub(r"://[^@\s/]*@", "://", reason)
