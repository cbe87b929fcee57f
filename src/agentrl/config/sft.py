"""The config of `agentrl sft`: how a baseline is made."""

from __future__ import annotations

from pydantic import Field

from agentrl.config.section import FilePath, Positive, PositiveInt, RunName
from agentrl.config.stage import StageConfig, StageRunConfig


class SFTConfig(StageConfig):
    """Supervised fine-tuning on conversations, loss on assistant tokens only."""

    train: FilePath = Field(description="JSONL of conversations: one object a line with `messages`.")
    validation: FilePath | None = Field(default=None, description="JSONL of conversations to report the loss on.")
    learning_rate: Positive = Field(default=2.0e-5, description="Peak learning rate of AdamW (trl's default for SFT).")
    max_length: PositiveInt = Field(default=1024, description="Tokens of a conversation; longer ones are cut.")


class SFTRunConfig(StageRunConfig):
    """A file for `agentrl sft`."""

    name: RunName = Field(default="sft", description="Names the run; without it, the config file's name.")
    sft: SFTConfig = Field(description="The fine-tuning itself.")
