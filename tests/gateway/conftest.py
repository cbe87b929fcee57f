"""`store`, `store_url` and `place`, on SQLite and on PostgreSQL: see `tests/release_fixtures.py`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrl.release.place import ReleasePlace
from agentrl.release.store import open_store
from tests.release_fixtures import place, postgres_schema, store, store_url


@pytest.fixture
def one_place(tmp_path: Path) -> Iterator[ReleasePlace]:
    """On SQLite alone, for what no database has a part in."""
    store = open_store(f"sqlite:///{tmp_path / 'releases' / 'release.db'}")
    yield ReleasePlace("support", tmp_path / "releases", store)
    store.close()


__all__ = ["place", "postgres_schema", "store", "store_url"]
