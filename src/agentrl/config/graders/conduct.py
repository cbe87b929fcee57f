"""Kinds that look at how an answer came about: tools, safety, cost."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection


class ToolUseConfig(GraderSection):
    """How tools were used: order, repeats, budget."""

    type: Literal["tool_use"] = Field(description="Kind of grader.")


class PolicyCheckConfig(GraderSection):
    """Whether the episode kept the rules: no red flags, no personal data, no forbidden tools."""

    type: Literal["policy_check"] = Field(description="Kind of grader.")


class EfficiencyConfig(GraderSection):
    """How little was spent: tokens, calls, seconds."""

    type: Literal["efficiency"] = Field(description="Kind of grader.")
