"""Which policies of a run are kept: those that validation liked best, by the hold-outs where there are some."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from agentrl.policy.checkpoint import save_policy
from agentrl.policy.folders import point
from agentrl.policy.policy import Policy
from agentrl.policy.ranks import Ranks


class Ranked(NamedTuple):
    """A policy that was measured."""

    step: int
    """0 is the baseline."""
    reward: float
    """On validation."""
    holdout: float | None = None
    """The hold-out graders' score, which then decides; None in a run without them."""

    @property
    def worth(self) -> float:
        """What policies are ranked by."""
        return self.reward if self.holdout is None else self.holdout


class Selection:
    """The best few policies, each in a folder `policy-NNNNNN`; the link `best` leads to the first of them.

    Args:
        folder: `checkpoints/` of the run.
        keep: how many.
        ranks: the first of them writes; all of them know what is kept.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()
        self.folder = folder
        self.keep = keep
        self.ranked: list[Ranked] = []
        """Best first; of equals the earlier."""

    @property
    def best(self) -> Ranked | None:
        return self.ranked[0] if self.ranked else None

    @property
    def best_path(self) -> Path:
        return self.folder / "best"

    def path(self, step: int) -> Path:
        return self.folder / f"policy-{step:06d}"

    def offer(self, policy: Policy, found: Ranked) -> None:
        """Keep the policy's weights if they are among the best.

        Raises:
            CheckpointError: they cannot be written; what was kept before still is.
        """
        others = [each for each in self.ranked if each.step != found.step]  # measured again: the new figure counts
        ranked = sorted([*others, found], key=lambda each: (-each.worth, each.step))[: self.keep]
        if found in ranked:
            self._ranks.on_first(lambda: save_policy(policy, self.path(found.step)))
        self.ranked = ranked
        self._point()

    def tidy(self, needed: Iterable[int] = ()) -> None:
        """Delete what is neither among the best nor `needed`: steps that an earlier checkpoint would go back to."""
        kept = {self.path(step) for step in (*needed, *(each.step for each in self.ranked))}
        for folder in self.folder.glob("policy-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def forget(self) -> None:
        """Other graders than those that ranked them: begin anew. The files stay until `tidy`."""
        self.ranked = []

    def state(self) -> list[list[float | None]]:
        """For a checkpoint."""
        return [list(each) for each in self.ranked]

    def restore(self, state: list[Any]) -> None:
        """Go back to what a checkpoint knew; folders that somebody deleted since are out of the race."""
        ranked = [Ranked(int(step), float(reward), *holdout) for step, reward, *holdout in state]
        self.ranked = self._ranks.on_first(lambda: [each for each in ranked if self.path(each.step).is_dir()])
        self._point()

    def _point(self) -> None:
        if self.best is not None:
            target = self.path(self.best.step).name
            self._ranks.on_first(lambda: point(self.best_path, target))
