"""What a checkpoint holds beside weights and optimiser, and how a run goes back to one.

Most of a run needs no saving: the order of the tasks, the seeds of the rollouts, the shuffles of the minibatches and
the learning rate are functions of (config, seed, step). What does carry something from step to step is a *part*: it
says its state as JSON, and takes it back. A checkpoint is written between steps only, when no rollout is in flight.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from agentrl.config import CheckpointConfig
from agentrl.disk import write_text
from agentrl.errors import CheckpointError
from agentrl.evaluation.selection import Selection
from agentrl.policy.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    prune,
    read_state,
    save_checkpoint,
    step_folders,
)
from agentrl.policy.folders import damage, recover
from agentrl.policy.policy import Policy
from agentrl.policy.ranks import Ranks
from agentrl.policy.rng import restore_rng, rng_state
from agentrl.ppo.trainer import PPOTrainer
from agentrl.progress import Reporter
from agentrl.runs.files import to_json

START = "start.json"


class Part(Protocol):
    """Something that remembers from one step to the next."""

    def state(self) -> Any:
        """What it remembers, as JSON."""

    def restore(self, state: Any) -> None:
        """Go on from there."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: `checkpoints/` of the run.
        policy: whose weights are saved and filled.
        ppo: its trainer, with the optimiser's state and the KL controller.
        reference_digest: of the weights that the run started from; a checkpoint of others is refused.
        data_digest: of the tasks, whose order is a function of it, the seed and the step.
        selection: the best policies; those that a kept checkpoint would go back to are kept too.
        parts: what else remembers, by the name that its state has in the checkpoint.
        ranks: the first of them writes, all of them read.
        needed_step: the step that the run may soon have to go back to, if any: the newest checkpoint up to it is kept.
    """

    def __init__(
        self,
        folder: Path,
        policy: Policy,
        ppo: PPOTrainer,
        config: CheckpointConfig,
        *,
        reference_digest: str,
        data_digest: str,
        selection: Selection,
        parts: Mapping[str, Part],
        ranks: Ranks,
        needed_step: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.needed_step = needed_step
        self.folder, self.policy, self.ppo, self.config = folder, policy, ppo, config
        self.ranks = ranks
        self.reference_digest, self.data_digest = reference_digest, data_digest
        self.selection, self.parts = selection, parts
        self._saved: dict[str, Any] | None = None

    def save(self, step: int, *, wall_seconds: float) -> None:
        """A checkpoint to go on from after `step`, unless just this is saved already; old ones are deleted.

        Raises:
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        state = self._state(step)
        if self.ranks.broadcast(state == self._saved):
            return
        optimizer = self.ppo.optimizer_tensors()  # of all ranks, where weights are in shards
        self.ranks.on_first(lambda: self._write(step, optimizer, {**state, "wall_seconds": wall_seconds}))
        self._saved = state

    def _write(self, step: int, optimizer: dict[str, Tensor], state: dict[str, Any]) -> None:
        save_checkpoint(self.folder / f"step-{step:06d}", self.policy, optimizer, state)
        prune(
            self.folder,
            keep_last=self.config.keep_last,
            keep_every_steps=self.config.keep_every_steps,
            needed_step=self.needed_step(),
        )
        self.selection.tidy(self._policies_of_earlier_checkpoints())

    def save_start(self) -> None:
        """Note that the baseline was measured: its weights need no saving, so this costs nothing."""
        text = to_json({**self._state(0), "wall_seconds": 0.0}, indent=2) + "\n"
        self.ranks.on_first(lambda: write_text(self.folder / START, text))

    def _state(self, step: int) -> dict[str, Any]:
        state = {
            "step": step,
            "policy_version": self.policy.version,
            "kl_coef": self.ppo.kl.coef,
            "reference_digest": self.reference_digest,
            "data": {"seed": self.ppo.seed, "next_step": step + 1, "digest": self.data_digest},
            "rollouts_in_flight": 0,
            "parts": {name: part.state() for name, part in self.parts.items()},
            "rng": rng_state(),
        }
        plain: dict[str, Any] = json.loads(to_json(state))  # as it comes back: NaN, which JSON lacks, is null
        return plain

    def _policies_of_earlier_checkpoints(self) -> set[int]:
        """Steps whose policies are needed where the newest checkpoint turns out to be damaged."""
        steps: set[int] = set()
        for folder in step_folders(self.folder)[-self.config.keep_last :]:
            try:
                steps |= {int(step) for step, *_ in read_state(folder)["parts"]["measurement"]["best"]}
            except (OSError, ValueError, KeyError):  # damaged: nobody will go back to it
                continue
        return steps

    def restore(self, reporter: Reporter) -> dict[str, Any] | None:
        """Go back to the newest whole checkpoint; its state, or None where there is none yet.

        Raises:
            CheckpointError: it belongs to another baseline or another architecture.
        """
        self.ranks.on_first(lambda: recover(self.folder))
        folder, complaints = self.ranks.on_first(lambda: newest_checkpoint(self.folder))
        for complaint in complaints:
            where = f"going back to {folder}" if folder else "there is no earlier one"
            reporter.message(f"{complaint}; {where}")
        if folder is None:
            return self._restore_start(reporter)
        tensors, state = load_checkpoint(folder, self.policy)
        if state["reference_digest"] != self.reference_digest:
            raise CheckpointError(f"{folder} was trained from another baseline than this run's")
        self.ppo.load_optimizer_tensors(tensors)
        self._fill(state)
        return state

    def _restore_start(self, reporter: Reporter) -> dict[str, Any] | None:
        """The baseline's measurement, where it is complete."""
        try:
            state = json.loads((self.folder / START).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            reporter.message(f"{self.folder / START} is damaged ({error}); measuring the baseline again")
            return None
        best = state["parts"]["measurement"]["best"]
        if state["reference_digest"] != self.reference_digest or any(
            damage(self.selection.path(int(step))) for step, *_ in best
        ):
            return None
        self._fill(state)
        return {**state, "step": None}

    def _fill(self, state: dict[str, Any]) -> None:
        self.ppo.kl.coef = state["kl_coef"]
        self.policy.version = state["policy_version"]
        self.ranks.spread_weights()
        for name, part in self.parts.items():
            if name in state["parts"]:  # else it was switched on since, and starts afresh
                part.restore(state["parts"][name])
        restore_rng(state["rng"])
