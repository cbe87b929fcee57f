"""The engine that a config asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrl.config import RunConfig
from agentrl.inference.engine import InferenceEngine

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy


def build_engine(config: RunConfig, policy: Policy) -> InferenceEngine:
    """`inference.kind` as an engine.

    Raises:
        ConfigError: the model cannot be run in this way, or an address or header cannot be used.
    """
    if config.inference.kind == "vllm":
        from agentrl.inference.vllm import VLLMEngine

        return VLLMEngine.from_config(config, policy)
    from agentrl.inference.in_process import InProcessEngine  # it loads torch, which other engines do without

    return InProcessEngine.from_config(config, policy)
