"""`policy:` where the weights live and in which precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.section import ALLOW_LISTS, NonEmpty, Positive, PositiveInt, Section


class LoRAConfig(Section):
    """Low-rank adapters beside frozen weights (arXiv:2106.09685), without dropout: the first ratio must be 1."""

    rank: PositiveInt = Field(default=16, description="Rank r of an adapter; vLLM needs `--max-lora-rank` as large.")
    alpha: Positive = Field(default=32.0, description="The adapter's output is scaled by alpha / rank.")
    target_modules: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS, Field(min_length=1)] | None = Field(
        default=None,
        description="Names of the linear layers that get one, such as q_proj; null is all but the output layer.",
    )


class PolicyConfig(Section):
    """Placement of the trained model; that a GPU is there is checked when training starts."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="`auto` takes the GPU where there is one; `cuda` insists on it."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Precision of weights and activations; the optimiser steps on float32 copies of the weights.",
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
    critic: Literal["detached", "shared", "separate"] = Field(
        default="detached",
        description="What the value head reads: the policy's hidden states, without (`detached`) or with (`shared`) a "
        "gradient into them, or those of a second copy of the baseline that it trains for itself (`separate`).",
    )
    value_hidden_size: PositiveInt = Field(default=256, description="Width of the value head's hidden layer, in units.")
    lora: LoRAConfig | None = Field(
        default=None,
        description="Train adapters and the value head only; the reference is the same model without them. "
        "null trains all weights.",
    )
