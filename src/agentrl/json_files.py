"""JSON in files: one value, or one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.strict_json import strict_json


def read_json_file(path: Path) -> Any:
    """The value in a file.

    Raises:
        ConfigError: the file cannot be read, or is no JSON (file, line, column).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return strict_json(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line that is not blank.

    Raises:
        ConfigError: the file cannot be read, or a line is no JSON object (file:line).
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = strict_json(line.decode("utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: found no JSON ({error}); allowed: one JSON object a line") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number}: found {line[:80]!r}; allowed: a JSON object")
        yield number, row
