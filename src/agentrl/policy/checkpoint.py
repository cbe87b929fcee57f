"""Checkpoints: safetensors and JSON in folders that are there whole or not at all (see `folders.py`).

`policy/` is an ordinary Hugging Face directory, or a PEFT adapter's where only that is trained;
`value_head.safetensors`, `optimizer.safetensors` and `state.json` are what else a run needs to go on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from agentrl.errors import CheckpointError
from agentrl.policy.folders import damage, new_folder
from agentrl.policy.lora import (
    ADAPTER_WEIGHTS,
    base_parameters,
    clear_adapter,
    fill_adapter,
    has_adapter,
    save_adapter,
    save_merged,
)
from agentrl.policy.policy import Policy

ADAPTER = "adapter"


def save_checkpoint(folder: Path, policy: Policy, optimizer: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint; an earlier one of the same name is replaced once this one is complete.

    Args:
        optimizer: named tensors, see PPOTrainer.optimizer_tensors.
        state: JSON: the step and whatever else the loop counts.

    Raises:
        CheckpointError: it cannot be written; what stood there before is untouched.
    """
    with new_folder(folder) as draft:
        _write_weights(policy, draft / "policy")
        policy.tokenizer.save_pretrained(draft / "policy")
        save_file(policy.value_head.state_dict(), draft / "value_head.safetensors")
        save_file(optimizer, draft / "optimizer.safetensors")
        (draft / "state.json").write_text(json.dumps(state, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def save_policy(policy: Policy, folder: Path) -> None:
    """The language model and its tokenizer as an ordinary Hugging Face directory, replacing an earlier one at once.

    A LoRA policy is merged; its adapter is in `adapter/` beside the merged weights.

    Raises:
        CheckpointError: it cannot be written; what stood there before is untouched.
    """
    with new_folder(folder) as draft:
        if has_adapter(policy.model):
            save_merged(policy.model, draft)
            save_adapter(policy.model, draft / ADAPTER)
        else:
            policy.model.save_pretrained(draft)
        policy.tokenizer.save_pretrained(draft)


def publish_weights(policy: Policy, folder: Path) -> None:
    """What an inference server is sent, complete as soon as the folder is there: the adapter, or all weights.

    Raises:
        CheckpointError: it cannot be written.
    """
    with new_folder(folder, is_kept=False) as draft:
        _write_weights(policy, draft)


def _write_weights(policy: Policy, folder: Path) -> None:
    """What training changes: the adapter, or all weights."""
    if has_adapter(policy.model):
        save_adapter(policy.model, folder)
    else:
        policy.model.save_pretrained(folder)


def step_folders(checkpoints: Path) -> list[Path]:
    """The `step-NNNNNN` folders, whole or not, oldest step first."""
    return sorted((each for each in checkpoints.glob("step-*") if each.name[5:].isdigit()), key=step_of)


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def newest_checkpoint(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest whole `step-NNNNNN` folder, and what was wrong with newer ones."""
    complaints: list[str] = []
    for folder in reversed(step_folders(checkpoints)):
        if not (wrong := damage(folder)):
            return folder, complaints
        complaints.append(wrong)
    return None, complaints


def load_checkpoint(folder: Path, policy: Policy) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Put the checkpoint's weights into the policy; returns the optimiser's tensors and the state.

    Raises:
        CheckpointError: it is damaged or belongs to another architecture.
    """
    if wrong := damage(folder):
        raise CheckpointError(wrong)
    load_weights(folder / "policy", policy)
    _fill(policy.value_head, load_file(folder / "value_head.safetensors"), folder)
    return load_file(folder / "optimizer.safetensors"), read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """The state that a checkpoint was saved with."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return state


def load_weights(folder: Path, policy: Policy) -> None:
    """Put the weights of a Hugging Face directory into the policy's model, in place.

    A LoRA policy takes the adapter that is there; where there is none, the folder must hold its own base weights.

    Raises:
        CheckpointError: they cannot be read or belong to another architecture.
    """
    adapter = folder / ADAPTER if (folder / ADAPTER).is_dir() else folder
    if has_adapter(policy.model) and (adapter / ADAPTER_WEIGHTS).exists():
        return _load_adapter(adapter, policy)
    try:
        stored = AutoModelForCausalLM.from_pretrained(folder, dtype=policy.model.dtype)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    if not has_adapter(policy.model):
        return _fill(policy.model, stored.state_dict(), folder)
    theirs, own = dict(stored.named_parameters()), base_parameters(policy.model)
    if theirs.keys() != own.keys() or any(not torch.equal(theirs[name], own[name].cpu()) for name in own):
        raise CheckpointError(
            f"{folder} does not fit the policy: it holds other base weights than policy.lora trains on"
        )
    return clear_adapter(policy.model)


def _load_adapter(folder: Path, policy: Policy) -> None:
    try:
        fill_adapter(policy.model, load_file(folder / ADAPTER_WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    except RuntimeError as error:
        raise CheckpointError(f"{folder} does not fit the policy: {error}") from error


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{folder} does not fit the policy: {error}") from error


def prune(
    checkpoints: Path, *, keep_last: int, keep_every_steps: int | None = None, needed_step: int | None = None
) -> None:
    """Delete all but the newest `keep_last` of the `step-NNNNNN` folders and those of every so many steps.

    Args:
        needed_step: a step to be able to go back to: the newest folder up to it stays, too.
    """
    folders = step_folders(checkpoints)
    needed = [folder for folder in folders if needed_step is not None and step_of(folder) <= needed_step][-1:]
    for folder in folders[:-keep_last]:
        step = step_of(folder)
        if folder not in needed and not (keep_every_steps and step and step % keep_every_steps == 0):
            shutil.rmtree(folder, ignore_errors=True)
