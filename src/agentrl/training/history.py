"""The metrics of every step so far: in memory for the rules that judge them, in metrics.jsonl for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agentrl.runs import RunDirectory


class History:
    """One row a step, oldest first; a checkpoint holds them all, so metrics.jsonl never has to be mended by hand.

    Args:
        tell: is told what a step's row gains, as it is written.
    """

    def __init__(self, run: RunDirectory, tell: Callable[[int, dict[str, float]], None] | None = None) -> None:
        self.run, self.tell = run, tell
        self.rows: list[dict[str, float]] = []

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """A step's row, written at once: what is interrupted later still counts."""
        self.rows.append({"step": step, **metrics})
        self.run.append_metrics(self.rows[-1])
        self._tell(step, metrics)

    def amend(self, metrics: dict[str, float]) -> None:
        """Further figures of the newest step."""
        self.rows[-1] |= metrics
        self.run.replace_metrics(self.rows)
        self._tell(int(self.rows[-1]["step"]), metrics)

    def _tell(self, step: int, metrics: dict[str, float]) -> None:
        if self.tell is not None:
            self.tell(step, metrics)

    def state(self) -> list[dict[str, float]]:
        """For a checkpoint."""
        return self.rows

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go back to these rows; later ones are taken again."""
        self.rows = [{key: math.nan if value is None else value for key, value in row.items()} for row in state]
        self.run.replace_metrics(self.rows)
