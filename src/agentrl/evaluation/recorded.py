"""Rollouts of a finished run, or of a file of traces, as whoever grades or labels them again wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentrl.errors import CheckpointError, ConfigError
from agentrl.labels import AuditEntry
from agentrl.runs.files import ROLLOUTS, read_rollouts, rollouts_path
from agentrl.runs.trace_files import SUFFIX, read_traces
from agentrl.runs.traces import from_trace
from agentrl.types import Rollout


def read_recorded(source: Path, *, with_test: bool = False) -> dict[str, list[Rollout]]:
    """Name of a file, such as "validation-000005", and its rollouts; a rollout that stands in two is taken once.

    Args:
        source: a run directory, or a file as `agentrl rollouts --out` and run directories have them.
        with_test: the test split's files of a run are read as well: what was chosen by them measures no more.

    Raises:
        ConfigError: there is nothing to read, or a line is no rollout (file:line).
    """
    seen: set[str] = set()
    found: dict[str, list[Rollout]] = {}
    for path in _files(source, with_test):
        name = path.name.removesuffix(SUFFIX).removesuffix(".jsonl")
        found[name] = []
        for rollout in read_traces(path, from_trace):
            if rollout.id not in seen:
                seen.add(rollout.id)
                found[name].append(rollout)
    return found


def _files(source: Path, with_test: bool) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ConfigError(f"{source}: no such file or folder; give a run directory, or a file of rollouts")
    found = sorted((source / ROLLOUTS).glob(f"*{SUFFIX}"))
    files = [path for path in found if with_test or not path.name.startswith("test")]
    if not files:
        what = "only rollouts of the test split; --test takes them" if found else f"no {ROLLOUTS}/*{SUFFIX}"
        raise ConfigError(f"{source}: has {what}; give the directory of a run, or a file of rollouts")
    return files


def queued_rollouts(run: Path, queue: Sequence[tuple[str, AuditEntry]]) -> dict[str, Rollout]:
    """The recorded episodes of an audit queue, (evaluation, entry), by id.

    Raises:
        CheckpointError: a file of rollouts is missing or damaged, or lacks one of them.
    """
    wanted: dict[str, set[str]] = {}
    for evaluation, entry in queue:
        wanted.setdefault(evaluation, set()).add(entry.rollout_id)
    found: dict[str, Rollout] = {}
    for evaluation, ids in wanted.items():
        path = rollouts_path(run, evaluation)
        try:
            traces = [trace for trace in read_rollouts(run, evaluation) if trace["id"] in ids]
            found |= {trace["id"]: from_trace(trace) for trace in traces}
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged: found no rollout ({type(error).__name__}: {error})") from error
        if missing := ids - found.keys():
            raise CheckpointError(f"{path} lacks {len(missing)} of the queued episodes, such as {min(missing)}")
    return found
