"""A JSON file and a larger one beside it, known by digest: an evaluation and its rollouts, a suite and its tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentrl.disk import file_digest
from agentrl.errors import ConfigError


def beside(path: Path, ending: str) -> Path:
    """NAME.json with another ending."""
    return path.with_name(f"{path.name.removesuffix('.json')}{ending}")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever keeps the file from being read in this block is a ConfigError that names it.

    Args:
        what: it should be, in words.
    """
    try:
        yield
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path}: is no {what} ({type(error).__name__}: {error})") from error


def read_record(path: Path, allowed: str, hint: str) -> dict[str, Any]:
    """The JSON object, which is of the allowed format.

    Raises:
        ConfigError: it is of another one; the hint says where one of this format comes from.
    """
    record = json.loads(path.read_text("utf-8"))
    found = record.get("format") if isinstance(record, dict) else type(record).__name__
    if not isinstance(record, dict) or found != allowed:
        raise ConfigError(f"{path}: found format {found!r}; allowed: {allowed!r}, as {hint}")
    return record


def file_beside(path: Path, record: Mapping[str, Any], key: str, digest: str, otherwise: str = "") -> Path:
    """The file that the record names under `key`, unchanged since its digest was taken.

    Raises:
        ConfigError: it is not there, or another one; `otherwise` says what that means.
    """
    found = path.with_name(str(record[key]))
    if found.parent != path.parent or not found.is_file():
        raise ConfigError(f"{path}: its {key}, {found.name}, are not beside it: keep the two files together")
    if (now := file_digest(found)) != record[digest]:
        raise ConfigError(f"{found}: found digest {now}; {path.name} was written with {record[digest]}{otherwise}")
    return found
