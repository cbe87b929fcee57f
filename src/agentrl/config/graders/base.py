"""What every declared grader has."""

from __future__ import annotations

from pydantic import Field

from agentrl.config.section import NonEmpty, Section


class GraderSection(Section):
    """A grader's name; a subclass adds `type`, a literal that tells the kinds apart, and the kind's own keys."""

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
