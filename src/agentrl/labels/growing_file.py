"""A file of JSON lines that only ever grows: several who write to it at once lose nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentrl.disk import sync
from agentrl.errors import ConfigError


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line at the end, on disk when this returns; the folder is made where it is missing.

    Raises:
        ConfigError: it cannot be written; the file is as it was.
    """
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", errors="replace")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        with path.open("ab+", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            if before and os.pread(file.fileno(), 1, before - 1) != b"\n":  # written by hand, without its last newline
                line = b"\n" + line
            try:
                if file.write(line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        if is_new:
            sync(path.absolute().parent)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from error
