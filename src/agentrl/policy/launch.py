"""From `accelerate launch` to the ranks of a run: what its config file and flags ask for, and what of it is not done.

`accelerate launch` starts the processes and hands its settings down as environment variables. The policy's device and
precision stay those of `policy:`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.config import RunConfig
from agentrl.errors import ConfigError
from agentrl.policy.ranks import Ranks

if TYPE_CHECKING:
    from agentrl.policy.sharding import Sharding

PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


def open_ranks(config: RunConfig) -> Ranks:
    """The ranks of this process' launch; a process that was started by itself is alone.

    Raises:
        ConfigError: the launcher was asked for what cannot be had here.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        _check_not_left_alone()
        return Ranks()
    _check_precision(config)
    sharding = wanted_sharding()
    from accelerate import PartialState  # loads much, which a process by itself does without

    from agentrl.policy.policy import pick_device
    from agentrl.policy.processes import ProcessRanks
    from agentrl.policy.sharding import ShardedRanks

    state = PartialState(cpu=pick_device(config.policy.device).type == "cpu")
    return ProcessRanks(state.device) if sharding is None else ShardedRanks(state.device, sharding)


def _check_not_left_alone() -> None:
    """`accelerate launch --cpu --num_processes 2` sets an address to meet at, and starts one process."""
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ:
        raise ConfigError(
            "accelerate launch --cpu starts a single process however many are asked for; on CPUs use "
            "`accelerate launch --multi_gpu --num_processes 2 -m agentrl train ...` with policy.device: cpu "
            "(or torchrun)"
        )


def _check_precision(config: RunConfig) -> None:
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if wanted != "no" and PRECISIONS.get(wanted) != config.policy.dtype:
        raise ConfigError(
            f"accelerate's mixed_precision: found {wanted}; allowed: no, or what policy.dtype says "
            f"({config.policy.dtype}): the policy's precision is set there"
        )


def wanted_sharding() -> Sharding | None:
    """FSDP2 as the launcher's environment describes it, or None for replicated weights."""
    from agentrl.policy.sharding import Sharding

    if _is_true("ACCELERATE_USE_DEEPSPEED"):
        stage, offload = _zero_stage()
        # Their own start-up would take the process group over; the stages are done by FSDP2.
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "false"
        return Sharding(reshard_after_forward=stage == 3, offload=offload) if stage else None
    if not _is_true("ACCELERATE_USE_FSDP"):
        return None
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise ConfigError(f"accelerate's fsdp_version: found {version}; allowed: 2")
    # With it transformers would leave the weights of all ranks but the first empty, and whole copies are needed here.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    classes = os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP", "")
    return Sharding(
        reshard_after_forward=_is_true("FSDP_RESHARD_AFTER_FORWARD", "true"),
        offload=_is_true("FSDP_OFFLOAD_PARAMS"),
        layer_classes=tuple(name.strip() for name in classes.split(",") if name.strip()),
    )


def _zero_stage() -> tuple[int, bool]:
    """The ZeRO stage of a DeepSpeed config, and whether weights are kept on the CPU."""
    path = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "")
    if path and path.lower() != "none":
        try:
            zero: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")).get("zero_optimization", {})
        except (OSError, ValueError) as error:
            raise ConfigError(f"deepspeed_config_file: {path} cannot be read: {error}") from error
        stage, device = zero.get("stage", 0), (zero.get("offload_param") or {}).get("device", "none")
    else:
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
        device = os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none")
    if str(stage) not in ("0", "1", "2", "3"):
        raise ConfigError(f"deepspeed's ZeRO stage: found {stage}; allowed: 0, 1, 2, 3")
    if device not in ("none", "cpu"):
        raise ConfigError(f"deepspeed's offload_param device: found {device}; allowed: none, cpu")
    return int(stage), device == "cpu"


def _is_true(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() in ("true", "1")
