"""An ablation as an object: figures, text for a terminal, JSON, and the files of `--out`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.disk import write_together
from agentrl.evaluation.ablation.figures import METRICS, Group, groups, trial_means
from agentrl.evaluation.ablation.lines import HEAD, VERDICT, cells, label, notes
from agentrl.evaluation.ablation.page import page
from agentrl.evaluation.ablation.trials import Trial
from agentrl.printable import printable
from agentrl.runs.files import to_json
from agentrl.runs.traces import to_trace


@dataclass(frozen=True)
class Ablation:
    """What the parts of recorded turns were worth to a policy."""

    name: str
    """Of the config."""
    recorded: str
    """Where the recorded episodes come from."""
    policy: Mapping[str, Any]
    """Who went on."""
    samples: int
    """Episodes of each arm of a turn."""
    seed: int
    replays: bool
    """Whether the kept turns' calls were made again."""
    pass_threshold: float
    trials: tuple[Trial, ...] = field(repr=False)

    @cached_property
    def groups(self) -> list[Group]:
        """The figures, see `figures.groups`."""
        return groups(self.trials, self.pass_threshold)

    @property
    def n_episodes(self) -> int:
        return len({each.id for trial in self.trials for each in (*trial.controls, *trial.ablated)})

    @property
    def n_lost(self) -> int:
        """Pairs without a vote, as one of their episodes has no grade."""
        return sum(len(trial.ablated) - len(trial.pairs) for trial in self.trials)

    @property
    def facts(self) -> list[str]:
        """What was done, in a few words each."""
        cuts = {(trial.cut.rollout.id, trial.cut.index) for trial in self.trials}
        items = {trial.cut.rollout.task.id for trial in self.trials}
        turns = f"{len(cuts)} turn{'s' * (len(cuts) != 1)}"
        return [
            f"{turns} of {len(items)} item{'s' * (len(items) != 1)} of {self.recorded}",
            f"gone on with by {self.policy.get('name', 'the policy')}",
            f"{self.samples} sample{'s' * (self.samples != 1)} an arm, {self.n_episodes} episodes",
        ]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "name": self.name,
            "recorded": self.recorded,
            "policy": dict(self.policy),
            "samples": self.samples,
            "seed": self.seed,
            "replays": self.replays,
            "n_episodes": self.n_episodes,
            "n_lost_pairs": self.n_lost,
            "groups": [group.as_dict() for group in self.groups],
            "turns": [self._turn(trial) for trial in self.trials],
        }

    def _turn(self, trial: Trial) -> dict[str, Any]:
        cut = trial.cut
        controls, without = trial_means(trial, self.pass_threshold) if trial.pairs else ([None] * len(METRICS),) * 2
        return {
            "task_id": cut.rollout.task.id,
            "rollout_id": cut.rollout.id,
            "turn": cut.index + 1,
            "tools": cut.tools,
            "part": trial.part.value,
            "n_pairs": len(trial.pairs),
            "control": dict(zip(METRICS, controls, strict=True)),
            "without": dict(zip(METRICS, without, strict=True)),
            "control_ids": [each.id for each in trial.controls],
            "without_ids": [each.id for each in trial.ablated],
        }

    @property
    def notes(self) -> list[str]:
        """How to read the figures."""
        return notes(len(self.groups), self.n_lost)

    def to_text(self) -> str:
        """For a terminal, 100 columns wide."""
        lines = textwrap.wrap(printable(", ".join(self.facts)), 100)
        rows = [(printable(label(group)), *cells(group)) for group in self.groups]
        if rows:
            table = [("", *HEAD), *rows]
            widths = [max(len(row[column]) for row in table) for column in range(len(HEAD) + 1)]
            aligned = ["  ".join(_aligned(row, widths)).rstrip() for row in table]
            lines += ["", aligned[0], "-" * max(map(len, aligned)), *aligned[1:]]
        return "\n".join([*lines, "", *(line for note in self.notes for line in textwrap.wrap(note, 100))])

    def write(self, folder: Path) -> Path:
        """ablation.html, ablation.json and the new episodes, ablation.rollouts.jsonl; returns the page's path.

        Raises:
            OSError: they cannot be written.
        """
        rollouts = {each.id: each for trial in self.trials for each in (*trial.controls, *trial.ablated)}
        write_together(
            folder,
            {
                "ablation.rollouts.jsonl": "".join(to_json(to_trace(each)) + "\n" for each in rollouts.values()),
                "ablation.json": to_json(self.as_dict(), indent=2) + "\n",
                "ablation.html": page(self),
            },
        )
        return folder / "ablation.html"


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if column in (0, VERDICT + 1) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
