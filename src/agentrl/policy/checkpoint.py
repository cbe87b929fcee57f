"""Checkpoints: safetensors and JSON, written beside and renamed, with a digest of every file.

A checkpoint is a folder: `policy/` is an ordinary Hugging Face directory, `value_head.safetensors`,
`optimizer.safetensors` and `state.json` are what else a run needs to go on. `digests.json` comes last: a folder
without it, or with one that does not fit, was never finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from agentrl.errors import CheckpointError
from agentrl.policy.policy import Policy

DIGESTS = "digests.json"


def save_checkpoint(
    folder: Path, policy: Policy, optimizer: dict[str, Tensor], state: dict[str, Any]
) -> None:
    """Write a checkpoint; an earlier one of the same name is replaced once this one is complete.

    Args:
        optimizer: named tensors, see PPOTrainer.optimizer_tensors.
        state: JSON: the step and whatever else the loop counts.

    Raises:
        CheckpointError: it cannot be written; what stood there before is untouched.
    """
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _write_policy(policy, draft / "policy")
        save_file(policy.value_head.state_dict(), draft / "value_head.safetensors")
        save_file(optimizer, draft / "optimizer.safetensors")
        (draft / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        (draft / DIGESTS).write_text(json.dumps(_digests(draft), indent=2) + "\n", encoding="utf-8")
        _replace(draft, folder)
    except OSError as error:
        raise CheckpointError(f"checkpoint {folder} cannot be written: {error}") from error


def save_policy(policy: Policy, folder: Path) -> None:
    """The language model and its tokenizer as an ordinary Hugging Face directory, replacing an earlier one at once."""
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        _write_policy(policy, draft)
        _replace(draft, folder)
    except OSError as error:
        raise CheckpointError(f"policy {folder} cannot be written: {error}") from error


def _write_policy(policy: Policy, folder: Path) -> None:
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)


def _replace(draft: Path, folder: Path) -> None:
    """Put `draft` where `folder` is; at every moment one complete checkpoint has the name or is the `.old` one."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint; empty if it is whole."""
    try:
        recorded = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{folder} was never finished (no readable {DIGESTS})"
    found = _digests(folder)
    wrong = sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name))
    return f"{folder} is damaged: {', '.join(wrong)} does not fit its digest" if wrong else ""


def newest_checkpoint(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest whole `step-NNNNNN` folder, and what was wrong with newer ones."""
    complaints = []
    for folder in sorted(checkpoints.glob("step-*"), reverse=True):
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
    policy.value_head.load_state_dict(load_file(folder / "value_head.safetensors"))
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return load_file(folder / "optimizer.safetensors"), state


def load_weights(folder: Path, policy: Policy) -> None:
    """Put the weights of a Hugging Face directory into the policy's model, in place."""
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=policy.model.dtype)
    try:
        with torch.no_grad():
            policy.model.load_state_dict(stored.state_dict())
    except RuntimeError as error:
        raise CheckpointError(f"{folder} does not fit the policy: {error}") from error


def prune(checkpoints: Path, keep: int) -> None:
    """Delete all but the newest `keep` of the `step-NNNNNN` folders."""
    for folder in sorted(checkpoints.glob("step-*"))[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)
