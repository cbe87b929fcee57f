"""DuckDB, in memory: it reads the Parquet files of the index and writes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from agentrl.errors import ConfigError

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""At most, for sorting a million rows in all."""
THREADS = 4


def connect() -> duckdb.DuckDBPyConnection:
    """A database of its own; nothing of it is on disk.

    Raises:
        ConfigError: duckdb is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError('agentrl ui needs duckdb: pip install "agentrl[ui]"') from error
    settings: dict[str, Any] = {
        "threads": min(THREADS, os.cpu_count() or 1),
        "memory_limit": MEMORY,
        "temp_directory": "",  # never spill beside whoever calls
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
    }
    return duckdb.connect(":memory:", config=settings)
