"""The database: SQLite in a file by default, PostgreSQL by URL; the same tables and the same tests on both.

Read `tables.py`. May import: floors 0-1.
"""

from agentrl.release.store.store import Store, open_store

__all__ = ["Store", "open_store"]
