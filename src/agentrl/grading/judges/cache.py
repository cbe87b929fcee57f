"""Verdicts that need not be asked for again: by the digest of all that decides them.

In a folder each verdict is a file of its own, named after the digest and renamed into place: processes may share it,
and a damaged file is one verdict that is asked for again. Files hold verdicts, no questions and no keys.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from agentrl.grading.submission import canonical
from agentrl.strict_json import strict_json

logger = logging.getLogger(__name__)

KEPT_IN_MEMORY = 100_000
_is_afresh: ContextVar[bool] = ContextVar("_is_afresh", default=False)


@contextmanager
def asked_afresh() -> Iterator[None]:
    """Inside, no verdict comes from a cache and none goes into one: how far a judge agrees with itself can be seen."""
    token = _is_afresh.set(True)
    try:
        yield
    finally:
        _is_afresh.reset(token)


def is_asked_afresh() -> bool:
    return _is_afresh.get()


def digest(*content: Any) -> str:
    """sha256 of JSON values, in hexadecimal digits."""
    return hashlib.sha256(canonical(list(content)).encode("utf-8", "surrogatepass")).hexdigest()


class VerdictCache:
    """Verdicts by digest, in memory and, where there is a folder, in files.

    Attributes:
        hits: verdicts that it had.
    """

    def __init__(self, folder: Path | None = None, *, is_on: bool = True) -> None:
        self._folder, self._is_on = folder, is_on
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._has_failed = False
        self.hits = 0

    def get(self, key: str) -> dict[str, Any] | None:
        """The verdict of a question; None where it has to be asked."""
        if not self._is_on or is_asked_afresh():
            return None
        found = self._kept.get(key) or self._read(key)
        if found is not None:
            self.hits += 1
            self._keep(key, found)
        return found

    def put(self, key: str, verdict: dict[str, Any]) -> None:
        """Keep a verdict. A folder that cannot be written is said once, and costs nothing but repeated questions."""
        if not self._is_on or is_asked_afresh():
            return
        self._keep(key, verdict)
        if self._folder is None:
            return
        try:
            self._write(key, verdict)
        except OSError as error:
            if not self._has_failed:
                logger.warning("%s: verdicts cannot be kept there: %s", self._folder, error.strerror)
            self._has_failed = True

    def _keep(self, key: str, verdict: dict[str, Any]) -> None:
        self._kept[key] = verdict
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT_IN_MEMORY:
            self._kept.popitem(last=False)

    def _path(self, key: str) -> Path | None:
        return self._folder / key[:2] / f"{key}.json" if self._folder else None

    def _read(self, key: str) -> dict[str, Any] | None:
        if (path := self._path(key)) is None:
            return None
        try:
            entry = strict_json(path.read_text("utf-8"))
            verdict = entry["verdict"]
            is_whole = entry["key"] == key and entry["sha256"] == digest(key, verdict) and isinstance(verdict, dict)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return verdict if is_whole else None

    def _write(self, key: str, verdict: dict[str, Any]) -> None:
        path = self._path(key)
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"key": key, "sha256": digest(key, verdict), "verdict": verdict}, file)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
