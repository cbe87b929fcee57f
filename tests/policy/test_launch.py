"""What a launcher hands down, without starting processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentrl.config import RunConfig
from agentrl.errors import ConfigError
from agentrl.policy.launch import open_ranks, wanted_sharding
from agentrl.policy.ranks import Ranks
from agentrl.policy.sharding import Sharding
from tests.toy_run import toy_run

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return toy_run(tmp_path, tmp_path)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without traces of a launcher."""
    for name in list(os.environ):
        if name in LAUNCHED or name.startswith(("ACCELERATE_", "FSDP_")):
            monkeypatch.delenv(name)
    return monkeypatch


def set_all(environment: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)


def test_a_process_by_itself_is_the_first_of_one(config: RunConfig, environment: pytest.MonkeyPatch) -> None:
    ranks = open_ranks(config)
    assert type(ranks) is Ranks
    assert (ranks.rank, ranks.count, ranks.is_first) == (0, 1, True)


def test_a_launch_for_cpus_that_starts_one_process_is_refused_with_the_command_that_starts_several(
    config: RunConfig, environment: pytest.MonkeyPatch
) -> None:
    set_all(environment, {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"})
    with pytest.raises(ConfigError, match=r"--multi_gpu --num_processes 2"):
        open_ranks(config)


def test_a_precision_other_than_the_policys_is_refused(config: RunConfig, environment: pytest.MonkeyPatch) -> None:
    set_all(environment, {"WORLD_SIZE": "2", "ACCELERATE_MIXED_PRECISION": "bf16"})
    with pytest.raises(ConfigError, match=r"mixed_precision: found bf16; allowed: no, .*float32"):
        open_ranks(config)


def test_weights_are_replicated_unless_the_launcher_asks_for_shards(environment: pytest.MonkeyPatch) -> None:
    assert wanted_sharding() is None


def test_fsdp2_is_taken_as_the_launcher_describes_it(environment: pytest.MonkeyPatch) -> None:
    set_all(environment, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"})
    set_all(environment, {"FSDP_OFFLOAD_PARAMS": "true", "FSDP_TRANSFORMER_CLS_TO_WRAP": "Qwen3DecoderLayer, Other"})
    environment.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    assert wanted_sharding() == Sharding(False, offload=True, layer_classes=("Qwen3DecoderLayer", "Other"))
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"  # else other ranks would load empty weights


def test_the_first_fsdp_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="fsdp_version: found 1; allowed: 2"):
        wanted_sharding()


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [("0", None), ("1", Sharding(False)), ("2", Sharding(False)), ("3", Sharding(True))],
)
def test_zero_stages_become_shards(environment: pytest.MonkeyPatch, stage: str, wanted: Sharding | None) -> None:
    set_all(environment, {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": stage})
    assert wanted_sharding() == wanted
    assert os.environ["ACCELERATE_USE_DEEPSPEED"] == "false"


def test_a_deepspeed_config_file_decides(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}))
    set_all(environment, {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"})
    environment.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))
    assert wanted_sharding() == Sharding(True, offload=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"zero_optimization": {"stage": 4}}', "ZeRO stage: found 4"),
        ('{"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}', "found nvme; allowed: none, cpu"),
        ("{", "cannot be read"),
    ],
)
def test_what_a_deepspeed_config_asks_for_in_vain_is_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "ds.json").write_text(text)
    environment.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    environment.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "ds.json"))
    with pytest.raises(ConfigError, match=message):
        wanted_sharding()
