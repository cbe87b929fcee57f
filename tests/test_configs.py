"""Every config that ships loads, as the kind of config that it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrl.config import (
    DPORunConfig,
    RewardModelRunConfig,
    RunConfig,
    SFTRunConfig,
    load_any_config,
    load_config,
    missing_for_training,
)

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_loads(path: Path) -> None:
    config = load_any_config(path)
    kinds = {"finqa-sft": SFTRunConfig, "finqa-dpo": DPORunConfig, "finqa-reward-model": RewardModelRunConfig}
    assert isinstance(config, kinds.get(path.stem, RunConfig))
    if isinstance(config, RunConfig):
        assert not missing_for_training(config)


def test_smoke_trains_the_same_task_as_finqa() -> None:
    smoke, finqa = load_config(ROOT / "configs/smoke.yaml"), load_config(ROOT / "configs/finqa.yaml")
    for section in ("workflow", "tools", "grading", "rollout"):
        assert getattr(smoke, section) == getattr(finqa, section)
    assert (smoke.data and smoke.data.path) == (finqa.data and finqa.data.path)
    assert smoke.ppo.learning_rate == finqa.ppo.learning_rate
