"""Attempts to get out of a sandbox: real ones, each the body of a function that a grader calls.

An attempt that succeeds returns a number; one that is stopped raises. They come with the sample, so that one worker
takes them all.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest

from agentrl.grading.sandbox import Level, Limits, Outcome, Worker
from agentrl.grading.sandbox.levels import ISOLATED, why_not

HARNESS = """
def grade(sample, item):
    scope = {"item": item, "sample": sample}
    exec(sample["code"], scope)
    return scope["attempt"]()
"""
SHORT = Limits(seconds=30.0, memory_mb=512, disk_mb=8, files=64)

CALL = """
import ctypes, errno, os
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return 1.0
"""


def request(code: str, **item: Any) -> bytes:
    whole = f"def attempt():\n{textwrap.indent(textwrap.dedent(code), '    ')}\n{CALL}"
    return json.dumps([{"code": whole}, item]).encode()


def levels(*, with_unisolated: bool = False) -> list[Any]:
    return [pytest.param(level, id=level.value) for level in (*ISOLATED, *([Level.UNISOLATED] * with_unisolated))]


def skip_unless_it_works(level: Level) -> None:
    if reason := why_not(level):
        pytest.skip(f"{level.value}: {reason}")


class Sandbox:
    """A worker that is replaced when an attempt has cost its life."""

    def __init__(self, level: Level, limits: Limits = SHORT, source: str = HARNESS) -> None:
        self.level, self._limits, self._source = level, limits, source
        self._worker: Worker | None = None

    def __call__(self, code: str, **item: Any) -> Outcome:
        return self.worker.grade(request(code, **item))

    @property
    def worker(self) -> Worker:
        if self._worker is None or not self._worker.is_alive:
            self.close()
            self._worker = Worker(self.level, self._source, self._limits)
        return self._worker

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None
