"""DuckDB, in memory: it reads the Parquet files of the index and writes them. Nothing of it is ever on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.errors import ConfigError

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""At most, of all that is asked at one time."""
THREADS = 4
GROUP_ROWS = 4096
"""What has to be unpacked to show one row."""

Columns = dict[str, Any]
"""Arrays of numpy by name."""


def threads() -> int:
    """That work on one question."""
    return min(THREADS, os.cpu_count() or 1)


@cache
def database() -> duckdb.DuckDBPyConnection:
    """The one of this process; every question is asked at a cursor of its own, and leaves nothing behind.

    Raises:
        ConfigError: duckdb is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError('agentrl ui needs duckdb: pip install "agentrl[ui]"') from error
    settings: dict[str, Any] = {
        "threads": threads(),
        "memory_limit": MEMORY,
        "temp_directory": "",  # or it would spill beside whoever calls
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,  # a table that a statement names is never a variable of ours
        "lock_configuration": True,
    }
    return duckdb.connect(":memory:", config=settings)


def ask(statement: str, values: Mapping[str, Any], tables: Mapping[str, Columns] | None = None) -> Columns:
    """What a statement finds.

    Args:
        values: of its parameters.
        tables: that it may name besides files.

    Raises:
        duckdb.Error: a file is missing or damaged.
    """
    with database().cursor() as cursor:
        for name, columns in (tables or {}).items():
            cursor.register(name, columns)
        found = dict(cursor.execute(statement, dict(values)).fetchnumpy())
        for name in tables or {}:
            cursor.unregister(name)
        return found


def write_parquet(path: Path, columns: Columns) -> None:
    """A table as a file.

    Raises:
        OSError: it cannot be written.
    """
    import duckdb

    with database().cursor() as cursor:
        cursor.register("written", columns)
        try:
            cursor.table("written").write_parquet(str(path), compression="zstd", row_group_size=GROUP_ROWS)
        except duckdb.IOException as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        finally:
            cursor.unregister("written")
