"""`policy:` where the weights live and in which precision."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentrl.config.section import NonEmpty, PositiveInt, Section


class PolicyConfig(Section):
    """Placement of the trained model; that a GPU is there is checked when training starts."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="`auto` takes the GPU where there is one; `cuda` insists on it."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Precision of weights and activations."
    )
    threads: PositiveInt | None = Field(
        default=None, description="CPU threads inside one torch operation; null leaves torch's own choice."
    )
    attn_implementation: NonEmpty = Field(
        default="sdpa", description="Attention kernel, by its transformers name, for rollouts and training alike."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: less memory, more time."
    )
    value_hidden_size: PositiveInt = Field(default=256, description="Width of the value head's hidden layer, in units.")
