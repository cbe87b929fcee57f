"""What a grader may be declared as: one class a kind, in files by theme, and their union in `union.py`.

`string_check`, `text_similarity`, `score_model`, `label_model`, `python`, `multi` and `endpoint` take the JSON that was
written for OpenAI's reinforcement fine-tuning as it is; the other kinds are ours. `agentrl.grading` carries them out.
"""

from __future__ import annotations

from agentrl.config.graders.base import GraderSection
from agentrl.config.graders.conduct import EfficiencyConfig, PolicyCheckConfig, ToolUseConfig
from agentrl.config.graders.judge import JudgeConfig
from agentrl.config.graders.judges import LabelModelConfig, RubricConfig, ScoreModelConfig
from agentrl.config.graders.learned import RewardModelConfig
from agentrl.config.graders.measures import JsonSchemaConfig, NumericConfig, StringCheckConfig, TextSimilarityConfig
from agentrl.config.graders.python import PythonConfig
from agentrl.config.graders.remote import EndpointConfig
from agentrl.config.graders.union import KINDS, GraderConfig, MultiConfig, with_parts

__all__ = [
    "KINDS",
    "EfficiencyConfig",
    "EndpointConfig",
    "GraderConfig",
    "GraderSection",
    "JsonSchemaConfig",
    "JudgeConfig",
    "LabelModelConfig",
    "MultiConfig",
    "NumericConfig",
    "PolicyCheckConfig",
    "PythonConfig",
    "RewardModelConfig",
    "RubricConfig",
    "ScoreModelConfig",
    "StringCheckConfig",
    "TextSimilarityConfig",
    "ToolUseConfig",
    "with_parts",
]
