"""`store` is an empty database of releases, once on SQLite and once on PostgreSQL; `place` is a workflow that has it.

PostgreSQL is the server at AGENTRL_TEST_POSTGRES, or the one at 127.0.0.1 that has a database `test`. Every test
process works in a schema of its own, so that tests may run side by side, and takes it away at its end; what a process
that was killed left there, the next one does.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import Connection, select

from agentrl.release.place import ReleasePlace
from agentrl.release.store import Store, open_store
from agentrl.release.store.tables import metadata, routing

SERVER = os.environ.get("AGENTRL_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
BACKENDS = ("sqlite", "postgres")
PREFIX = "agentrl_of_test_"


@pytest.fixture(scope="session")
def postgres_schema() -> Iterator[str]:
    """A URL of a schema that only this process knows; the tests that need it are skipped without a server."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    try:
        connection = psycopg.connect(SERVER, autocommit=True, connect_timeout=3)
    except psycopg.Error as error:
        reason = str(error).strip().partition("\n")[0]
        pytest.skip(f"no PostgreSQL; AGENTRL_TEST_POSTGRES may name one ({reason})")
    with connection:
        connection.execute("select pg_advisory_lock(hashtext(%s))", (name,))  # says that its process lives
        _drop_left(connection)
        connection.execute(f"create schema {name}")
        # a test needs no disk that survives a power cut
        yield _with_options(SERVER, f"-csearch_path={name} -csynchronous_commit=off")
        connection.execute(f"drop schema {name} cascade")


@pytest.fixture(params=BACKENDS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, for processes that open it themselves."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store' / 'release.db'}"
        return
    url: str = request.getfixturevalue("postgres_schema")
    yield url
    _empty(url)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store."""
    store = open_store(store_url)
    yield store
    store.close()


@pytest.fixture
def place(store: Store, tmp_path: Path) -> ReleasePlace:
    """The releases of the workflow `support`."""
    folder = tmp_path / "releases"
    folder.mkdir()
    return ReleasePlace("support", folder, store)


def _drop_left(connection: psycopg.Connection[tuple[str]]) -> None:
    """Schemas of test processes that were killed."""
    found = connection.execute("select nspname from pg_namespace where starts_with(nspname, %s)", (PREFIX,)).fetchall()
    for (name,) in found:
        if connection.execute("select pg_try_advisory_lock(hashtext(%s))::text", (name,)).fetchone() == ("true",):
            connection.execute(f"drop schema if exists {name} cascade")
            connection.execute("select pg_advisory_unlock(hashtext(%s))", (name,))


def _with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"  # libpq does not read + as a space


def _empty(url: str) -> None:
    """Take all rows out: a fifth of the time that new tables take. A test that changed the tables leaves none."""
    with psycopg.connect(url, autocommit=True, connect_timeout=3) as connection:
        connection.execute("set lock_timeout = '5s'")  # what a forgotten process holds is an error, not a long wait
        found = connection.execute("select tablename from pg_tables where schemaname = current_schema()").fetchall()
        tables = {name for (name,) in found}
        if tables == set(metadata.tables):
            others = sorted(tables - {"agentrl_schema"})
            connection.execute(";".join(f"delete from {name}" for name in others))
        else:
            for name in sorted(tables):
                connection.execute(f"drop table {name} cascade")


def change_routing(connection: Connection, store: Store, workflow: str, **values: Any) -> int:
    """Set columns of the routing row, as the books do when a release changes; returns the new epoch."""
    found = connection.execute(
        select(routing.c.epoch).where(routing.c.workflow == workflow).with_for_update()
    ).scalar_one_or_none()
    epoch = (found or 0) + 1
    row = {"workflow": workflow, "general_upstream": "", "general_bundle": "", **values, "epoch": epoch}
    changed = {**values, "epoch": epoch}
    statement = store.insert(routing).values(**row)
    connection.execute(statement.on_conflict_do_update(index_elements=["workflow"], set_=changed))
    return epoch
