"""A measurement under way, on disk as its rollouts are made: one that was interrupted goes on where it was.

NAME.partial.jsonl    what is measured, under which conditions; then its graded rollouts, as they come
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from agentrl.disk import write_text
from agentrl.errors import ConfigError
from agentrl.evaluation.paired_files import beside
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.turns import derive_seed
from agentrl.runs.files import to_json
from agentrl.runs.identity import changes
from agentrl.runs.sound_traces import sound_rollout
from agentrl.runs.traces import to_trace
from agentrl.types import Rollout, StopReason, Task


def partial_beside(path: Path) -> Path:
    """Where the rollouts of the evaluation file `path` are kept until it is written."""
    return beside(path, ".partial.jsonl")


class Partial:
    """A RolloutEngine to those who use it: it rolls out what is not there yet, and keeps what gets a grade.

    Args:
        path: the file; None keeps nothing.
        identity: what must be equal for the rollouts of an earlier attempt to count.

    Attributes:
        kept: graded rollouts of this measurement so far, by task and sample.

    Raises:
        ConfigError: the file is of another measurement, or cannot be written.
    """

    def __init__(self, engine: RolloutEngine, path: Path | None, identity: Mapping[str, Any]) -> None:
        self._engine = engine
        self.kept: dict[tuple[str, int], Rollout] = {}
        self._file: IO[str] | None = None
        if path is None:
            return
        head = to_json(identity)
        try:
            lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []  # a last one may be torn
            rollouts = _read(path, lines, json.loads(head)) if lines else []
            self.kept = {_place(rollout): rollout for rollout in rollouts}
            write_text(path, "\n".join([head, *map(_line, self.kept.values())]) + "\n")
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be kept ({error.strerror or error})") from error

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that there are."""
        return self._engine.tools

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    async def run(
        self,
        tasks: Sequence[Task],
        *,
        samples_per_task: int = 1,
        seed: object = 0,
        on_done: Callable[[Rollout], None] | None = None,
        is_watched: bool = False,
    ) -> list[Rollout]:
        """As RolloutEngine.run; what is kept is not rolled out again."""
        wanted = [(task, index) for task in tasks for index in range(samples_per_task)]
        missing = [
            _stand_in(task, index, derive_seed(seed, task.id, index))
            for task, index in wanted
            if (task.id, index) not in self.kept
        ]
        fresh = iter(await self.run_again(missing, is_watched=is_watched, on_done=on_done))
        before = {_place(each) for each in missing}
        return [next(fresh) if (task.id, index) in before else self.kept[task.id, index] for task, index in wanted]

    async def run_again(
        self,
        rollouts: Iterable[Rollout],
        *,
        is_watched: bool = False,
        on_done: Callable[[Rollout], None] | None = None,
    ) -> list[Rollout]:
        """As RolloutEngine.run_again."""

        def keep(rollout: Rollout) -> None:
            if rollout.is_valid:
                self.kept[_place(rollout)] = rollout
                if self._file is not None:
                    print(_line(rollout), file=self._file, flush=True)
            if on_done is not None:
                on_done(rollout)

        return await self._engine.run_again(rollouts, is_watched=is_watched, on_done=keep)

    async def wait_until_healthy(self) -> None:
        """As RolloutEngine.wait_until_healthy."""
        await self._engine.wait_until_healthy()


def _place(rollout: Rollout) -> tuple[str, int]:
    return rollout.task.id, rollout.sample_index


def _stand_in(task: Task, sample_index: int, seed: int) -> Rollout:
    """What `run_again` is told of a rollout that there was none of."""
    return Rollout(
        id="", task=task, sample_index=sample_index, seed=seed, prompt_ids=(), turns=(),
        stop_reason=StopReason.INFRASTRUCTURE, answer="", seconds=0.0,
    )  # fmt: skip


def _line(rollout: Rollout) -> str:
    return to_json(to_trace(rollout))


def _read(path: Path, lines: Sequence[str], identity: Mapping[str, Any]) -> list[Rollout]:
    try:
        before = json.loads(lines[0])
        rollouts = [sound_rollout(json.loads(line)) for line in lines[1:]]
        differing = [each.key for each in changes(before, identity)]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"{path}: is no measurement under way ({type(error).__name__}: {error}); delete it"
        ) from error
    if differing:
        raise ConfigError(
            f"{path}: holds {len(rollouts)} rollouts of another measurement, which differs in {', '.join(differing)}; "
            "give the same options to go on with it, or delete it"
        )
    return rollouts
