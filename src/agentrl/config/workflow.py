"""`workflow:` what is trained, from which checkpoint, judged by which grader."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.section import FilePath, NonEmpty, Section


class WorkflowConfig(Section):
    """The brief's short form: `workflow: {target, baseline, reward_model, policy_training: ppo_kl}`."""

    target: NonEmpty = Field(description="What the agent is for, in a few words; names the run in reports.")
    baseline: FilePath = Field(
        description="Directory of the SFT checkpoint to start from (config, weights, tokenizer)."
    )
    reward_model: NonEmpty | None = Field(
        default=None, description="Name of the grader that gives the reward: the `name` under `grading`."
    )
    policy_training: Literal["ppo_kl"] = Field(
        default="ppo_kl", description="Algorithm: PPO with a KL penalty to the frozen baseline."
    )
    baseline_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        default=None, description="Pin of the baseline, `sha256:` and 64 hex digits; another checkpoint is refused."
    )
    chat_template: NonEmpty | None = Field(
        default=None,
        description="Training template in place of the baseline's own: `qwen3` or `gpt-oss`, which ship with agentrl, "
        "or the path of a .jinja file; saved with every checkpoint.",
    )
