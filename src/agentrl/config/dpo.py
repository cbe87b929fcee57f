"""The config of `agentrl dpo`: preferences over multi-step segments."""

from __future__ import annotations

from pydantic import Field

from agentrl.config.section import FilePath, Fraction, Positive, PositiveInt, RunName
from agentrl.config.stage import StageConfig, StageRunConfig


class DPOConfig(StageConfig):
    """Direct preference optimisation (arXiv:2305.18290) on segments of several turns (arXiv:2501.01821)."""

    train: FilePath = Field(description="JSONL of pairs, as `agentrl pairs` writes it.")
    validation: FilePath | None = Field(default=None, description="JSONL of pairs to report loss and margin on.")
    beta: Positive = Field(
        default=0.1, description="How much a nat of log-ratio counts; small ones let the policy move further."
    )
    learning_rate: Positive = Field(default=1.0e-6, description="Peak learning rate of AdamW (trl's default for DPO).")
    max_length: PositiveInt = Field(
        default=4096, description="Tokens of prefix and segment; pairs with a longer side are dropped, never cut."
    )
    max_dropped_fraction: Fraction = Field(
        default=0.05, description="Share of a file's pairs that max_length may drop; with more the run is refused."
    )


class DPORunConfig(StageRunConfig):
    """A file for `agentrl dpo`."""

    name: RunName = Field(default="dpo", description="Names the run; without it, the config file's name.")
    dpo: DPOConfig = Field(description="The preference optimisation itself.")
