"""One database for gateways, controllers and people: all or nothing, several at once, moved with the versions."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection, func, insert, inspect, select, text, update

from agentrl.errors import ConfigError, ConflictError, ReleaseError
from agentrl.release.place import ReleasePlace
from agentrl.release.routing import read_routing, renew_lease
from agentrl.release.store import Store, migrations, open_store
from agentrl.release.store.tables import SCHEMA_VERSION, alerts, metadata, schema
from tests.release_fixtures import change_routing

WRITERS, ROWS = 4, 25


def alert(name: str, at: float = 0.0) -> dict[str, object]:
    return {"id": name, "workflow": "support", "at": at, "kind": "test", "text": "text"}


def count(store: Store) -> int:
    with store.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(alerts)).scalar_one()
    return found


def routed(store: Store, **values: object) -> int:
    with store.write() as connection:
        return change_routing(connection, store, "support", **values)


def test_all_tables_are_made_and_carry_the_version(store: Store) -> None:
    with store.read() as connection:
        assert set(inspect(connection).get_table_names()) == set(metadata.tables)
        assert connection.execute(select(schema.c.version)).scalar_one() == SCHEMA_VERSION


def test_a_second_opening_finds_what_the_first_one_wrote(store: Store, store_url: str) -> None:
    with store.write() as connection:
        connection.execute(insert(alerts).values(alert("a")))
    again = open_store(store_url)
    assert count(again) == 1
    again.close()


def test_a_write_that_fails_half_way_leaves_nothing(store: Store) -> None:
    def write() -> None:
        with store.write() as connection:
            connection.execute(insert(alerts).values(alert("a")))
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        write()
    assert count(store) == 0


def test_writers_of_several_threads_lose_no_row_and_no_epoch(store: Store) -> None:
    def write(writer: int) -> None:
        for row in range(ROWS):
            with store.write() as connection:
                connection.execute(insert(alerts).values(alert(f"{writer}-{row}")))
                change_routing(connection, store, "support", salt=f"{writer}-{row}")

    routed(store, salt="first")  # there is a row to lock from now on
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    assert count(store) == WRITERS * ROWS
    found = read_routing(store, "support")
    assert found is not None
    assert found.epoch == WRITERS * ROWS + 1


CHILD = """
import sys
from sqlalchemy import insert
from agentrl.release.store import open_store
from agentrl.release.store.tables import alerts
store = open_store(sys.argv[1])
for row in range(int(sys.argv[3])):
    with store.write() as connection:
        values = {"id": f"{sys.argv[2]}-{row}", "workflow": "support", "at": 0.0, "kind": "test", "text": "text"}
        connection.execute(insert(alerts).values(values))
"""


def test_processes_that_start_at_once_make_the_tables_once_and_lose_no_row(store_url: str) -> None:
    arguments = [sys.executable, "-c", CHILD, store_url]
    children = [subprocess.Popen([*arguments, str(n), str(ROWS)], stderr=subprocess.PIPE) for n in range(3)]
    assert [child.communicate(timeout=60)[1].decode() for child in children] == ["", "", ""]
    store = open_store(store_url)
    assert count(store) == 3 * ROWS
    store.close()


def test_a_reader_sees_one_state_and_waits_for_no_writer(store: Store) -> None:
    is_read = Event()

    def write() -> None:
        assert is_read.wait(30)
        with store.write() as connection:
            connection.execute(insert(alerts).values(alert("later")))

    with ThreadPoolExecutor(1) as pool, store.read() as connection:
        rows = select(func.count()).select_from(alerts)
        assert connection.execute(rows).scalar_one() == 0
        written = pool.submit(write)
        is_read.set()
        written.result(30)
        assert connection.execute(rows).scalar_one() == 0  # still the state that it began with
    assert count(store) == 1


def test_two_writers_of_one_row_come_one_after_the_other(store: Store) -> None:
    """Both read, then write what they read plus one: with a lock neither overwrites the other."""
    routed(store, share_percent=0.0)
    with ThreadPoolExecutor(WRITERS) as pool:
        epochs = list(pool.map(lambda share: routed(store, share_percent=float(share)), range(20)))
    assert sorted(epochs) == list(range(2, 22))


def test_a_lease_is_not_renewed_for_a_routing_that_has_changed(store: Store) -> None:
    epoch = routed(store, release_id="r", share_percent=5.0)
    assert renew_lease(store, "support", epoch=epoch) == 1
    assert renew_lease(store, "support", epoch=epoch) == 2
    routed(store, share_percent=0.0)
    with pytest.raises(ConflictError, match=f"no longer of epoch {epoch}"):
        renew_lease(store, "support", epoch=epoch)
    found = read_routing(store, "support")
    assert found is not None
    assert (found.lease_renewal, found.share_percent, found.release_id) == (2, 0.0, "r")


def test_a_store_of_a_later_version_is_refused(store: Store, store_url: str) -> None:
    with store.write() as connection:
        connection.execute(update(schema).values(version=SCHEMA_VERSION + 1))
    try:
        with pytest.raises(
            ConfigError, match=rf"version {SCHEMA_VERSION + 1}, this agentrl knows up to {SCHEMA_VERSION}"
        ):
            open_store(store_url)
    finally:
        with store.write() as connection:
            connection.execute(update(schema).values(version=SCHEMA_VERSION))


def test_an_earlier_version_moves_one_step_at_a_time(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.write() as connection:
        connection.execute(insert(alerts).values(alert("kept")))
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    first, second = SCHEMA_VERSION, SCHEMA_VERSION + 1
    steps = {
        first: lambda connection: connection.execute(text("alter table alerts add column owner varchar(20)")),
        second: lambda connection: connection.execute(text("update alerts set owner = 'nobody'")),
    }
    monkeypatch.setattr(migrations, "STEPS", steps)
    moved = open_store(store_url)
    try:
        with moved.read() as connection:
            assert connection.execute(text("select id, owner from alerts")).all() == [("kept", "nobody")]
            assert connection.execute(select(schema.c.version)).scalar_one() == SCHEMA_VERSION + 2
    finally:
        with moved.write() as connection:
            connection.execute(text("alter table alerts drop column owner"))
            connection.execute(update(schema).values(version=SCHEMA_VERSION))
        moved.close()


def test_a_step_that_fails_leaves_the_tables_as_they_were(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(connection: Connection) -> None:
        connection.execute(text("alter table alerts add column owner varchar(20)"))
        connection.execute(text("select * from nothing_of_this_name"))

    monkeypatch.setattr(migrations, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(migrations, "STEPS", {SCHEMA_VERSION: fails})
    with pytest.raises(ReleaseError, match="nothing_of_this_name"):
        open_store(store_url)
    with store.read() as connection:
        assert connection.execute(select(schema.c.version)).scalar_one() == SCHEMA_VERSION
        assert "owner" not in {column["name"] for column in inspect(connection).get_columns("alerts")}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "found 'mysql'; allowed: sqlite:///FILE, postgresql"),
        ("nothing at all", "release.store: "),
    ],
    ids=["another-database", "no-url"],
)
def test_an_address_that_is_no_database_of_ours_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_store(url)


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(ReleaseError) as caught:
        open_store("postgresql://someone:planted-password@127.0.0.1:1/test")
    assert "postgresql+psycopg://someone:***@127.0.0.1:1/test" in str(caught.value)
    assert "planted-password" not in str(caught.value)


def test_an_error_names_the_store_and_shows_no_values(store: Store) -> None:
    with store.write() as connection:
        connection.execute(insert(alerts).values(alert("twice")))
    with pytest.raises(ReleaseError) as caught, store.write() as connection:
        connection.execute(insert(alerts).values({**alert("twice"), "text": "planted-secret"}))
    assert str(caught.value).startswith(store.name)
    assert "planted-secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "release.db").write_text("not a database, " * 100)
    with pytest.raises(ReleaseError, match=r"release\.db: .*not a database"):
        open_store(f"sqlite:///{tmp_path / 'release.db'}")


def test_a_place_keeps_its_files_in_its_folder(place: ReleasePlace) -> None:
    assert place.audit_log.parent == place.blobs.parent == place.folder
