"""YAML to a frozen RunConfig, with messages that say what to repair.

Read `run.py` first (the whole file as one class), then the section you care about: a file, a YAML section and a class
share a name. `loading.py` reads, `messages.py` explains. May import: floor 0 (errors).
"""

from __future__ import annotations

from agentrl.config.data import CurriculumConfig, DataConfig
from agentrl.config.dpo import DPOConfig, DPORunConfig
from agentrl.config.evaluation import CheckpointConfig, EvaluationConfig
from agentrl.config.gateway import GatewayConfig, UpstreamConfig
from agentrl.config.grading import GradingConfig
from agentrl.config.guards import GuardsConfig
from agentrl.config.inference import InferenceConfig
from agentrl.config.loading import (
    load_any_config,
    load_config,
    load_dpo_config,
    load_reward_model_config,
    load_sft_config,
    to_yaml,
)
from agentrl.config.monitoring import MonitoringConfig
from agentrl.config.policy import LoRAConfig, PolicyConfig
from agentrl.config.ppo import KLConfig, PPOConfig
from agentrl.config.release import GateConfig, ReleaseConfig
from agentrl.config.reward_model import (
    CalibrationGateConfig,
    RenderingConfig,
    RewardModelRunConfig,
    RewardModelTrainingConfig,
)
from agentrl.config.rewards import (
    DynamicSamplingConfig,
    PotentialConfig,
    ProcessRewardsConfig,
    TokenPenaltyConfig,
    ToolEfficiencyConfig,
    TurnScoreConfig,
)
from agentrl.config.rollout import PricesConfig, RolloutConfig
from agentrl.config.run import RunConfig, TrainingSections, missing_for_training, training_sections
from agentrl.config.sft import SFTConfig, SFTRunConfig
from agentrl.config.stage import StageCheckpointConfig, StageConfig, StageRunConfig
from agentrl.config.tools import (
    LifecycleConfig,
    MCPServerConfig,
    PythonToolConfig,
    ServeConfig,
    ToolEndpointConfig,
    ToolsConfig,
)
from agentrl.config.tracking import OpenTelemetryConfig, TrackingConfig
from agentrl.config.workflow import WorkflowConfig

__all__ = [
    "CalibrationGateConfig",
    "CheckpointConfig",
    "CurriculumConfig",
    "DPOConfig",
    "DPORunConfig",
    "DataConfig",
    "DynamicSamplingConfig",
    "EvaluationConfig",
    "GateConfig",
    "GatewayConfig",
    "GradingConfig",
    "GuardsConfig",
    "InferenceConfig",
    "KLConfig",
    "LifecycleConfig",
    "LoRAConfig",
    "MCPServerConfig",
    "MonitoringConfig",
    "OpenTelemetryConfig",
    "PPOConfig",
    "PolicyConfig",
    "PotentialConfig",
    "PricesConfig",
    "ProcessRewardsConfig",
    "PythonToolConfig",
    "ReleaseConfig",
    "RenderingConfig",
    "RewardModelRunConfig",
    "RewardModelTrainingConfig",
    "RolloutConfig",
    "RunConfig",
    "SFTConfig",
    "SFTRunConfig",
    "ServeConfig",
    "StageCheckpointConfig",
    "StageConfig",
    "StageRunConfig",
    "TokenPenaltyConfig",
    "ToolEfficiencyConfig",
    "ToolEndpointConfig",
    "ToolsConfig",
    "TrackingConfig",
    "TrainingSections",
    "TurnScoreConfig",
    "UpstreamConfig",
    "WorkflowConfig",
    "load_any_config",
    "load_config",
    "load_dpo_config",
    "load_reward_model_config",
    "load_sft_config",
    "missing_for_training",
    "to_yaml",
    "training_sections",
]
