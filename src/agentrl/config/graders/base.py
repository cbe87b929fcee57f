"""What every declared grader has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from agentrl.config.graders.templates import template_problems
from agentrl.config.section import NonEmpty, PathParts, Problem, Section


class GraderSection(Section):
    """A grader's name; a subclass adds `type`, a literal that tells the kinds apart, and the kind's own keys."""

    not_content: ClassVar[frozenset[str]] = frozenset({"name", "pass_threshold"})
    """Keys that change no score, such as labels and waits: they are no part of the grader's version."""

    name: NonEmpty | None = Field(
        default=None, description="The grader's name in reports; null is its type, or its key under `multi`."
    )
    pass_threshold: float | None = Field(
        default=None, description="Score from which reports count a success; the score itself stays what it is."
    )

    @property
    def best_score(self) -> float:
        """The most that this kind can give, as far as its declaration says so."""
        return 1.0

    @property
    def least_score(self) -> float:
        return 0.0

    def templates(self) -> Iterator[tuple[PathParts, str]]:
        """Its templates, each with its place below the declaration: they are checked when the config is read."""
        yield from ()

    def problems(self) -> Iterator[Problem]:
        yield from template_problems(self.templates())
