"""Whether the disk has room for what a run is going to keep: asked before anything is spent on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from agentrl.config import CheckpointConfig
from agentrl.errors import CheckpointError
from agentrl.policy.policy import Policy


def checkpoint_bytes(policy: Policy) -> int:
    """A checkpoint to go on from: what is trained, and the optimiser's two moments of it."""
    return 3 * sum(parameter.nbytes for _, parameter in policy.named_parameters())


def policy_bytes(policy: Policy) -> int:
    """A policy that is kept: all weights, adapters merged."""
    return sum(parameter.nbytes for parameter in policy.model.parameters())


def lack_of_room(folder: Path, policy: Policy, config: CheckpointConfig, steps: int) -> str:
    """What to tell where checkpoints and policies together will not fit; empty where they will.

    Raises:
        CheckpointError: not even one of each fits.
    """
    one, best, free = checkpoint_bytes(policy), policy_bytes(policy), shutil.disk_usage(folder).free
    if free < one + best:
        raise CheckpointError(
            f"{folder} has {_gigabytes(free)} of room; a checkpoint takes {_gigabytes(one)} and the best policy "
            f"{_gigabytes(best)}: make room, or choose another --run-dir"
        )
    n_checkpoints = config.keep_last + 1 + (steps // config.keep_every_steps if config.keep_every_steps else 0)
    if free >= (needed := n_checkpoints * one + (config.keep_best + 1) * best):
        return ""
    return (
        f"{folder} has {_gigabytes(free)} of room, the run may come to keep {_gigabytes(needed)} there: make room, or "
        "lower checkpoint.keep_last or checkpoint.keep_best"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
