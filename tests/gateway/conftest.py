"""`store`, `store_url` and `place`, on SQLite and on PostgreSQL: see `tests/release_fixtures.py`."""

from tests.release_fixtures import place, postgres_schema, store, store_url

__all__ = ["place", "postgres_schema", "store", "store_url"]
