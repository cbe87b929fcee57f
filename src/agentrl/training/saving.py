"""What a checkpoint holds beside weights and optimiser, and how a run goes back to one.

Most of a run needs no saving: the order of the tasks, the seeds of the rollouts and the shuffles of the minibatches
are functions of (config, seed, step). What does carry something from step to step is a *part*: it says its state as
JSON, and takes it back. A checkpoint is written between steps only, when no rollout is in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from agentrl.errors import CheckpointError
from agentrl.policy.checkpoint import load_checkpoint, newest_checkpoint, prune, save_checkpoint
from agentrl.ppo.trainer import PPOTrainer
from agentrl.progress import Reporter


class Part(Protocol):
    """Something that remembers from one step to the next."""

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: `checkpoints/` of the run.
        ppo: whose policy, optimiser and KL controller are saved and filled.
        reference_digest: of the weights that the run started from; a checkpoint of others is refused.
        parts: what else remembers, by the name that its state has in the checkpoint.
        keep_last: how many are kept.
    """

    def __init__(
        self, folder: Path, ppo: PPOTrainer, *, reference_digest: str, parts: Mapping[str, Part], keep_last: int
    ) -> None:
        self.folder, self.ppo, self.reference_digest = folder, ppo, reference_digest
        self.parts, self.keep_last = parts, keep_last

    def save(self, step: int, *, wall_seconds: float) -> None:
        """A checkpoint to go on from after `step`; all but the newest few are deleted.

        Raises:
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        state = {
            "step": step,
            "policy_version": self.ppo.policy.version,
            "kl_coef": self.ppo.kl.coef,
            "reference_digest": self.reference_digest,
            "wall_seconds": wall_seconds,
            "parts": {name: part.state() for name, part in self.parts.items()},
        }
        folder = self.folder / f"step-{step:06d}"
        save_checkpoint(folder, self.ppo.policy, self.ppo.optimizer_tensors(), state)
        prune(self.folder, self.keep_last)

    def restore(self, reporter: Reporter) -> dict[str, Any] | None:
        """Go back to the newest whole checkpoint; its state, or None where there is none yet.

        Raises:
            CheckpointError: it belongs to another baseline or another architecture.
        """
        folder, complaints = newest_checkpoint(self.folder)
        for complaint in complaints:
            reporter.message(f"{complaint}; going back to an earlier one")
        if folder is None:
            return None
        tensors, state = load_checkpoint(folder, self.ppo.policy)
        if state["reference_digest"] != self.reference_digest:
            raise CheckpointError(f"{folder} was trained from another baseline than this run's")
        self.ppo.load_optimizer_tensors(tensors)
        self.ppo.kl.coef = state["kl_coef"]
        self.ppo.policy.version = state["policy_version"]
        for name, part in self.parts.items():
            part.restore(state["parts"][name])
        return state
