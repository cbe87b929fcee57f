"""Graders that were built for a request, kept for the next: workers stay warm, connections open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentrl.config import GradingConfig
from agentrl.grading import RunGrader, build_grader
from agentrl.grading.submission import canonical

KEPT = 8


class Shelf:
    """The graders used last. One event loop; those in use are never closed."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._graders: OrderedDict[str, tuple[RunGrader, int]] = OrderedDict()
        """By their whole declaration, credentials included: the grader, and how many use it."""

    @asynccontextmanager
    async def borrow(self, grading: GradingConfig) -> AsyncIterator[RunGrader]:
        """The grader of a declaration.

        Raises:
            ConfigError: it cannot be built.
        """
        key = canonical(grading.model_dump())
        grader, users = self._graders.pop(key) if key in self._graders else (build_grader(grading), 0)
        self._graders[key] = grader, users + 1  # at the end: the one used last
        try:
            yield grader
        finally:
            grader, users = self._graders[key]
            self._graders[key] = grader, users - 1
            await self._tidy(self._kept)

    async def aclose(self) -> None:
        await self._tidy(0)

    async def _tidy(self, kept: int) -> None:
        idle = [key for key, (_, users) in self._graders.items() if users == 0]
        while len(self._graders) > kept and idle:
            grader, _ = self._graders.pop(idle.pop(0))
            await grader.aclose()
