"""A run as it was when one of its files was written: what resumed it later may have been allowed to change things."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

STEP_BACK = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
SLACK_SECONDS = 1.0
"""The start of a process is noted in whole seconds."""


def as_it_was(config: Mapping[str, Any], manifest: Mapping[str, Any], file: Path) -> tuple[dict[str, Any], Any]:
    """The config and the `versions` of the process that wrote a file of the run, by the time of the file.

    A run that was copied without its times is taken to have been written by its last process.

    Args:
        config: the run's config.yaml, which is that of the last process.
        manifest: manifest.json, with what each process changed under `resumed`.
    """
    written_at = file.stat().st_mtime + SLACK_SECONDS
    found: dict[str, Any] = copy.deepcopy(dict(config))
    processes = [manifest, *manifest.get("resumed", [])]
    while len(processes) > 1 and datetime.fromisoformat(str(processes[-1]["started_at"])).timestamp() > written_at:
        for change in processes.pop().get("changes", []):
            if not str(change["key"]).startswith("versions."):
                _put_back(found, str(change["key"]), change["before"])
    return found, processes[-1]["versions"]


def _put_back(config: dict[str, Any], key: str, before: Any) -> None:
    """Set `a.b[0].c`; what was absent is recorded as null, and so it is in a config. A key that is gone is left."""
    *path, last = [int(index) if index else name for index, name in STEP_BACK.findall(key)]
    place: Any = config
    try:
        for step in path:
            place = place[step]
        place[last] = before
    except (KeyError, IndexError, TypeError):
        return
