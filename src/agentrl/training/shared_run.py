"""A run directory that several ranks work in: the first one writes, and a disk error is one of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agentrl.policy.ranks import Ranks
from agentrl.runs import RunDirectory
from agentrl.runs.token_facts import TokenFacts
from agentrl.types import Rollout

Result = TypeVar("Result")


class SharedRun(RunDirectory):
    """The run directory as every rank sees it; each writing method is called by all ranks.

    Args:
        path: the same on all ranks, and the same folder: checkpoints are read by each.
        ranks: the first of them writes.
        run: opened by the first rank; None on the others.
    """

    def __init__(self, path: Path, ranks: Ranks, run: RunDirectory | None) -> None:
        self.path = path
        self.lost_rollouts = run.lost_rollouts if run else []
        self._ranks, self._run = ranks, run

    def __repr__(self) -> str:
        return f"SharedRun({str(self.path)!r}, rank {self._ranks.rank} of {self._ranks.count})"

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        self._write(lambda run: run.append_metrics(row))

    def replace_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._write(lambda run: run.replace_metrics(rows))

    def read_metrics(self) -> list[dict[str, Any]]:
        return self._write(RunDirectory.read_metrics)

    def keep_rollouts(self, name: str, rollouts: Iterable[Rollout], tell: Callable[[str], None]) -> None:
        if self._run is not None:  # nobody need hear of it: a run goes on without traces, and rollouts may be ahead
            self._run.keep_rollouts(name, rollouts, tell)

    def watch_rollouts(self, on_kept: Callable[[str, int], None]) -> None:
        if self._run is not None:
            self._run.watch_rollouts(on_kept)

    def keep_token_facts(self, name: str, facts: Iterable[TokenFacts], tell: Callable[[str], None]) -> None:
        if self._run is not None:  # every rank has the facts of the whole batch
            self._run.keep_token_facts(name, facts, tell)

    def write_rollouts(self, name: str, rollouts: Iterable[Rollout]) -> Path:
        return self._write(lambda run: run.write_rollouts(name, rollouts))

    def write_json(self, name: str, obj: Any) -> Path:
        return self._write(lambda run: run.write_json(name, obj))

    def check(self) -> None:
        self._write(lambda run: run.check())

    def restore(self, state: list[str]) -> None:
        self._write(lambda run: run.restore(state))
        self.lost_rollouts = self._run.lost_rollouts if self._run else list(state)

    def close(self) -> None:
        if self._run is not None:
            self._run.close()

    def _write(self, work: Callable[[RunDirectory], Result]) -> Result:
        def on_first() -> Result:
            assert self._run is not None
            return work(self._run)

        return self._ranks.on_first(on_first)
