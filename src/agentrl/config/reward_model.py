"""The config of `agentrl reward-model train`: a model that says how good an episode was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from agentrl.config.section import FilePath, Fraction, NonNegative, Positive, PositiveInt, Problem, RunName, Section
from agentrl.config.stage import StageConfig, StageRunConfig


class RenderingConfig(Section):
    """What of an episode the model reads; kept with it, so that it is graded with what it was trained on."""

    max_tool_chars: PositiveInt = Field(
        default=2000, description="Characters of a tool output; what is cut leaves a marker with the whole length."
    )
    thoughts: bool = Field(
        default=False, description="Show what the policy thought as well; graders are not shown it elsewhere."
    )


class CalibrationGateConfig(Section):
    """What the hold-out has to show before a reward model may grade; scarce evidence never passes."""

    min_comparisons: PositiveInt = Field(
        default=200, description="Comparisons (objective scores: episodes) in the hold-out, at least."
    )
    min_accuracy: Fraction = Field(
        default=0.55,
        description="Lower end of the 95 % intervals of the share of comparisons decided right, at least: by Wilson, "
        "and with whole tasks drawn again.",
    )
    max_ece: Fraction = Field(
        default=0.05,
        description="Expected calibration error after temperature scaling, at most, beyond what chance makes of so few "
        "examples; ten bins of equal mass, on the half of the hold-out that the temperature was not fitted on.",
    )
    max_length_correlation: Fraction = Field(
        default=0.3,
        description="Size of the correlation of reward and sampled tokens, at most; or max_length_gap holds.",
    )
    max_length_gap: Fraction = Field(
        default=0.03, description="Accuracy lost on comparisons of episodes of about equal length, at most."
    )


class RewardModelTrainingConfig(StageConfig):
    """A one-number model from comparisons (Bradley-Terry) or from scores, with its calibration on a hold-out."""

    train: FilePath = Field(description="JSONL of episodes and comparisons, as `agentrl reward-model pairs` writes it.")
    validation: FilePath = Field(
        description="The hold-out, of other tasks and documents: the report and the gate are about it."
    )
    objective: Literal["pairs", "scores"] = Field(
        default="pairs",
        description="`pairs`: the better episode of two gets the higher reward; `scores`: the reward is the logit of "
        "the episode's score, which has to lie from 0 to 1.",
    )
    learning_rate: Positive = Field(
        default=1.0e-5, description="Peak learning rate of AdamW; trl's default, 1.0e-4, is meant for adapters."
    )
    max_length: PositiveInt = Field(
        default=4096, description="Tokens of a rendered episode; what is longer is dropped, never cut."
    )
    max_dropped_fraction: Fraction = Field(
        default=0.05, description="Share of a file's comparisons that max_length may drop; with more it is refused."
    )
    margin: NonNegative = Field(
        default=0.0,
        description="Of pairs: by how much the reward of the better one is to be ahead, for each point between the two "
        "scores; 0 asks for no distance.",
    )
    centering_coef: NonNegative = Field(
        default=0.01,
        description="Of pairs: weight of the squared sum of both rewards, which keeps rewards near 0 "
        "(arXiv:2312.09244).",
    )
    rendering: RenderingConfig = Field(default=RenderingConfig(), description="What of an episode is read.")
    gate: CalibrationGateConfig = Field(default=CalibrationGateConfig(), description="What it has to show.")

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.train == self.validation:
            found = f"found {self.validation}, which is train too; allowed: a file of other tasks and documents"
            yield Problem(("validation",), found)
        if self.objective == "scores" and self.margin:
            yield Problem(("margin",), f"found {self.margin:g} with objective: scores; allowed: 0, it is of pairs")


class RewardModelRunConfig(StageRunConfig):
    """A file for `agentrl reward-model train`."""

    name: RunName = Field(default="reward-model", description="Names the run; without it, the config file's name.")
    reward_model: RewardModelTrainingConfig = Field(description="The training itself.")
