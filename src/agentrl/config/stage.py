"""What the configs of all stages on trl have in common: from which weights to which, and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.policy import LoRAConfig
from agentrl.config.section import Count, FilePath, NonNegative, Positive, PositiveInt, Problem, RunName, Section


class StageCheckpointConfig(Section):
    """When the state of a stage is saved; validation is measured at the same steps."""

    every_steps: PositiveInt = Field(default=50, description="Optimiser steps between two checkpoints.")
    keep_last: PositiveInt = Field(default=2, description="Checkpoints to keep, the newest ones.")


class StageConfig(Section):
    """One stage of training on a file of examples."""

    model: FilePath = Field(description="Directory of the checkpoint to start from (config, weights, tokenizer).")
    output: FilePath = Field(
        description="Directory to write the trained checkpoint to; an earlier checkpoint there is replaced at the end."
    )
    train: FilePath = Field(description="JSONL of the examples to learn from.")
    validation: FilePath | None = Field(default=None, description="JSONL of examples to report the loss on.")
    epochs: Positive = Field(default=1.0, description="Passes over the examples; fractions are allowed.")
    learning_rate: Positive = Field(default=2.0e-5, description="Peak learning rate of AdamW; it falls as a cosine.")
    batch_size: PositiveInt = Field(default=16, description="Examples an optimiser step.")
    microbatch_size: PositiveInt | None = Field(
        default=None,
        description="Examples a forward pass, a divisor of batch_size: less memory, the same gradient; null is all.",
    )
    max_length: PositiveInt = Field(default=1024, description="Most tokens of an example.")
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.03, description="Fraction of the steps in which the learning rate rises."
    )
    weight_decay: NonNegative = Field(default=0.0, description="Decoupled weight decay of AdamW.")
    max_grad_norm: Positive = Field(default=1.0, description="Longer gradients are scaled down to this norm.")
    lora: LoRAConfig | None = Field(
        default=None,
        description="Train adapters only; `output` has them merged, and beside in `adapter/`. null trains all weights.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Precision of the matrix products; weights and optimiser are float32."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: less memory, more time."
    )
    threads: PositiveInt | None = Field(
        default=None, description="CPU threads inside one torch operation; null leaves torch's own choice."
    )
    save_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="Precision of the weights in `output`."
    )
    checkpoint: StageCheckpointConfig = Field(default=StageCheckpointConfig(), description="Saving the state.")

    def problems(self) -> Iterator[Problem]:
        if self.microbatch_size is not None and self.batch_size % self.microbatch_size:
            yield Problem(
                ("microbatch_size",),
                f"found {self.microbatch_size}; allowed: a divisor of batch_size ({self.batch_size})",
            )


class StageRunConfig(Section):
    """What the top of such a file holds besides the stage's own section."""

    name: RunName = Field(default="stage", description="Names the run; without it, the config file's name.")
    seed: Count = Field(default=17, description="Seed of shuffling and initialisation.")
