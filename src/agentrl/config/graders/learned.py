"""`type: reward_model`: a model that `agentrl reward-model train` made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import ALLOW_LISTS, FilePath, PositiveInt, Problem


class RewardModelConfig(GraderSection):
    """A local reward model; the score is its calibrated probability, from 0 to 1."""

    type: Literal["reward_model"] = Field(description="Kind of grader.")
    path: FilePath = Field(description="Folder that `agentrl reward-model train` wrote.")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        default=None, description="The folder's digest as the training printed it; another folder is refused."
    )
    ensemble: Annotated[tuple[FilePath, ...], ALLOW_LISTS] = Field(
        default=(),
        description="Further reward models: the score is the lowest of all, and how far they are apart is the "
        "sub-score `disagreement` (arXiv:2310.02743).",
    )
    allow_uncalibrated: bool = Field(
        default=False, description="Take a model that failed the gate of its hold-out; a warning is all that remains."
    )
    threads: PositiveInt = Field(default=1, description="CPU threads that score, beside those that sample.")
    batch_size: PositiveInt = Field(
        default=1,
        description="Episodes scored at once. With more than one, the last digits of a score depend on who is scored "
        "beside it; on a CPU nothing is gained.",
    )

    def problems(self) -> Iterator[Problem]:
        paths = (self.path, *self.ensemble)
        if len(set(paths)) < len(paths):
            yield Problem(("ensemble",), "found one folder twice; allowed: different reward models")
