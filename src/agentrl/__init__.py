"""agentrl trains tool-using agents: rollouts against your endpoints, your grader's score, PPO with a KL penalty.

    import agentrl as arl

    config = arl.load_config("configs/finqa.yaml")
    print(arl.probe(config).verdict)
    result = arl.train(config)
    print(arl.compare(f"{result.run_dir}@baseline", f"{result.run_dir}@best").quadrants())

Names below are loaded when they are first used: `import agentrl` does no work and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentrl.config import RunConfig, load_config
    from agentrl.data.tasks import load_tasks
    from agentrl.errors import (
        AgentRLError,
        BaselineError,
        CheckpointError,
        ConfigError,
        EngineError,
        GraderError,
        RolloutError,
        ToolError,
        ToolInputError,
        TrainingStopped,
    )
    from agentrl.evaluation.comparison import compare
    from agentrl.evaluation.contender import PolicySource
    from agentrl.evaluation.evaluate import evaluate
    from agentrl.evaluation.evaluate_policy import EvalOptions, evaluate_policy
    from agentrl.evaluation.evaluation_files import Evaluation
    from agentrl.evaluation.probe.collect import ProbeOptions
    from agentrl.evaluation.probe.run import probe
    from agentrl.inference.scripted import ScriptedEngine
    from agentrl.policy.policy import load_policy
    from agentrl.policy.reference import ReferencePolicy
    from agentrl.ppo.trainer import PPOTrainer
    from agentrl.rollout.engine import RolloutEngine
    from agentrl.rollout.trajectory import to_trajectories
    from agentrl.training import train
    from agentrl.types import Grade, Rollout, Task, Trajectory, Turn

__version__ = "0.1.0"

_HOMES = {
    "agentrl.config": ("RunConfig", "load_config"),
    "agentrl.data.tasks": ("load_tasks",),
    "agentrl.errors": (
        "AgentRLError",
        "BaselineError",
        "CheckpointError",
        "ConfigError",
        "EngineError",
        "GraderError",
        "RolloutError",
        "ToolError",
        "ToolInputError",
        "TrainingStopped",
    ),
    "agentrl.evaluation.comparison": ("compare",),
    "agentrl.evaluation.contender": ("PolicySource",),
    "agentrl.evaluation.evaluate": ("evaluate",),
    "agentrl.evaluation.evaluate_policy": ("EvalOptions", "evaluate_policy"),
    "agentrl.evaluation.evaluation_files": ("Evaluation",),
    "agentrl.evaluation.probe.collect": ("ProbeOptions",),
    "agentrl.evaluation.probe.run": ("probe",),
    "agentrl.inference.scripted": ("ScriptedEngine",),
    "agentrl.policy.policy": ("load_policy",),
    "agentrl.policy.reference": ("ReferencePolicy",),
    "agentrl.ppo.trainer": ("PPOTrainer",),
    "agentrl.rollout.engine": ("RolloutEngine",),
    "agentrl.rollout.trajectory": ("to_trajectories",),
    "agentrl.training": ("train",),
    "agentrl.types": ("Grade", "Rollout", "Task", "Trajectory", "Turn"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AgentRLError",
    "BaselineError",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "EvalOptions",
    "Evaluation",
    "Grade",
    "GraderError",
    "PPOTrainer",
    "PolicySource",
    "ProbeOptions",
    "ReferencePolicy",
    "Rollout",
    "RolloutEngine",
    "RolloutError",
    "RunConfig",
    "ScriptedEngine",
    "Task",
    "ToolError",
    "ToolInputError",
    "TrainingStopped",
    "Trajectory",
    "Turn",
    "compare",
    "evaluate",
    "evaluate_policy",
    "load_config",
    "load_policy",
    "load_tasks",
    "probe",
    "to_trajectories",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'agentrl' has no attribute '{name}'")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
