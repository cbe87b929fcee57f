"""What a stage needs to go on: weights and optimiser as safetensors, the rest as JSON; nothing is unpickled.

step-000050/
  weights/              the adapter, or a whole Hugging Face directory
  optimizer.safetensors AdamW's moments: INDEX/KEY
  state.json            rates and scheduler, random generators
  trainer_state.json    transformers' own counters
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from agentrl.errors import CheckpointError
from agentrl.policy.checkpoint import prune
from agentrl.policy.folders import new_folder
from agentrl.policy.lora import ADAPTER_WEIGHTS, fill_adapter, has_adapter, save_adapter
from agentrl.policy.rng import restore_rng, rng_state

WEIGHTS = "weights"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
TRAINER_STATE = "trainer_state.json"  # transformers looks for this name


def save_state(checkpoints: Path, trainer: Any, keep_last: int) -> None:
    """Write `checkpoints/step-NNNNNN` after a step of transformers' trainer; older ones go.

    Raises:
        CheckpointError: it cannot be written.
    """
    moments = trainer.optimizer.state_dict()["state"]
    tensors = {f"{index}/{key}": value for index, state in moments.items() for key, value in state.items()}
    state = {
        "learning_rates": [group["lr"] for group in trainer.optimizer.param_groups],
        "scheduler": {key: value for key, value in trainer.lr_scheduler.state_dict().items() if key != "lr_lambdas"},
        "rng": rng_state(),
    }
    with new_folder(checkpoints / f"step-{trainer.state.global_step:06d}") as draft:
        if has_adapter(trainer.model):
            save_adapter(trainer.model, draft / WEIGHTS)
        else:
            trainer.model.save_pretrained(draft / WEIGHTS)
        save_file(tensors, draft / OPTIMIZER)
        (draft / STATE).write_text(json.dumps(state), encoding="utf-8")
        trainer.state.log_history = []  # the run directory has it, as metrics
        trainer.state.save_to_json(str(draft / TRAINER_STATE))
    prune(checkpoints, keep_last=keep_last)


def load_weights(folder: Path, model: Any) -> None:
    """Put a checkpoint's weights into the model, in place.

    Raises:
        CheckpointError: they are another model's.
    """
    try:
        if has_adapter(model):
            fill_adapter(model, load_file(folder / WEIGHTS / ADAPTER_WEIGHTS))
        else:
            stored = type(model).from_pretrained(folder / WEIGHTS, dtype=model.dtype)
            model.load_state_dict(stored.state_dict())
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} does not fit the model: {error}") from error


def load_optimizer(folder: Path, optimizer: Any, scheduler: Any) -> None:
    """Put moments, learning rates and schedule back."""
    state = _state(folder)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(folder / OPTIMIZER).items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, rate in zip(groups, state["learning_rates"], strict=True):
        group["lr"] = rate
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    scheduler.load_state_dict({**scheduler.state_dict(), **state["scheduler"]})


def load_rng(folder: Path) -> None:
    """Put the random generators back."""
    restore_rng(_state(folder)["rng"])


def _state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return state
