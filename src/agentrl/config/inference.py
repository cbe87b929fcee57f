"""`inference:` where tokens come from and how they are sampled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.section import Positive, PositiveInt, Section


class InferenceConfig(Section):
    """The sampling distribution is the one that PPO trains: `run.py` refuses to truncate it."""

    kind: Literal["in_process"] = Field(
        default="in_process", description="`in_process` samples from the trainer's own weights."
    )
    temperature: Positive = Field(
        default=1.0, description="Divides the logits, in rollouts and in the trainer's log-probabilities alike."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Nucleus mass to sample from; 1 samples from all tokens."
    )
    top_k: PositiveInt | None = Field(
        default=None, description="Number of likeliest tokens to sample from; null is all."
    )
    max_batch: PositiveInt = Field(default=64, description="Episodes decoded together.")
    kv_cache_bytes: PositiveInt = Field(
        default=4 * 2**30,
        description="Most memory for the keys and values of all episodes; those that find no room wait.",
    )
    deterministic: bool = Field(
        default=False,
        description="Bit-equal rollouts on a CPU, however long the endpoints take; several times slower.",
    )
