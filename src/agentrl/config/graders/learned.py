"""`type: reward_model`: a model that `agentrl reward-model train` made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import FilePath


class RewardModelConfig(GraderSection):
    """A local reward model, with the calibration that it was accepted by."""

    type: Literal["reward_model"] = Field(description="Kind of grader.")
    path: FilePath = Field(description="Folder that `agentrl reward-model train` wrote.")
