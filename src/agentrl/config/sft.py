"""The config of `agentrl sft`: how a baseline is made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.section import Count, FilePath, NonNegative, Positive, PositiveInt, RunName, Section


class SFTConfig(Section):
    """Supervised fine-tuning on conversations, loss on assistant tokens only."""

    model: FilePath = Field(description="Directory of the checkpoint to start from (config, weights, tokenizer).")
    output: FilePath = Field(description="Directory to write the trained checkpoint to.")
    train: FilePath = Field(description="JSONL of conversations: one object a line with `messages`.")
    validation: FilePath | None = Field(default=None, description="JSONL of conversations to report the loss on.")
    epochs: Positive = Field(default=1.0, description="Passes over the conversations; fractions are allowed.")
    learning_rate: Positive = Field(default=2.0e-5, description="Peak learning rate of AdamW (trl's default for SFT).")
    batch_size: PositiveInt = Field(default=16, description="Conversations an optimiser step.")
    max_length: PositiveInt = Field(default=1024, description="Tokens of a conversation; longer ones are cut.")
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.03, description="Fraction of the steps in which the learning rate rises."
    )
    weight_decay: NonNegative = Field(default=0.0, description="Decoupled weight decay of AdamW.")
    threads: PositiveInt | None = Field(
        default=None, description="CPU threads inside one torch operation; null leaves torch's own choice."
    )
    save_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="Precision of the saved weights; training is in float32."
    )


class SFTRunConfig(Section):
    """A file for `agentrl sft`."""

    name: RunName = Field(default="sft", description="Names the run; without it, the config file's name.")
    seed: Count = Field(default=17, description="Seed of shuffling and initialisation.")
    sft: SFTConfig = Field(description="The fine-tuning itself.")
