"""Recorded files of rollouts, each with what its sessions have in common, read from what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agentrl.errors import ConfigError
from agentrl.monitoring.session_record import ReleaseChannel, SessionContext, digest, safe_id
from agentrl.runs.files import CONFIG, MANIFEST, ROLLOUTS, read_json
from agentrl.runs.plain_values import plain_yaml
from agentrl.runs.sound_traces import sound_rollout
from agentrl.runs.trace_files import SUFFIX, read_traces
from agentrl.types import Rollout

EVALUATED = ("validation", "test")
"""First words of the names of files that evaluations leave."""


@dataclass(frozen=True)
class Recording:
    """One file of rollouts."""

    path: Path
    context: SessionContext
    ended_at: float
    """When it was written, in seconds since 1970."""

    def rollouts(self) -> Iterator[Rollout]:
        """One after the other.

        Raises:
            ConfigError: the file cannot be read, or a line is no rollout.
        """
        return read_traces(self.path, sound_rollout)


def recordings(source: Path, only: Sequence[str] = ()) -> list[Recording]:
    """The files of a run directory, oldest first, or the one file of rollouts.

    Args:
        only: names of files of the run, such as `validation-final`; none of them is all.

    Raises:
        ConfigError: there is no such run or file.
        CheckpointError: the run's manifest is damaged.
    """
    if source.is_dir():
        found = {path.name.removesuffix(SUFFIX): path for path in (source / ROLLOUTS).glob(f"*{SUFFIX}")}
        if missing := [name for name in only if name not in found]:
            raise ConfigError(
                f"{source}: no rollouts named {missing[0]!r}; found: {', '.join(sorted(found)) or 'none'}"
            )
        paths = [(name, path) for name, path in found.items() if not only or name in only]
        kept = [Recording(path, context_of(source, name), path.stat().st_mtime) for name, path in paths]
        if not kept:
            context_of(source, "")  # says that it is no run, where it is none
            raise ConfigError(f"{source}: the run has kept no rollouts")
        return sorted(kept, key=lambda each: (each.ended_at, each.path.name))
    if not source.is_file():
        raise ConfigError(f"{source}: no such run or file")
    name, run = source.name.removesuffix(SUFFIX).removesuffix(".jsonl"), source.parent.parent
    is_of_run = source.parent.name == ROLLOUTS and (run / MANIFEST).is_file()
    context = context_of(run, name) if is_of_run else SessionContext(run_id=safe_id(name), agent="agent", file=name)
    return [Recording(source, context, source.stat().st_mtime)]


def evaluation_context(
    name: str, policy: Mapping[str, Any], conditions: Mapping[str, Any], *, pass_threshold: float, tools: Sequence[str]
) -> SessionContext:
    """Of an evaluation file, by what it says of itself."""
    graders = {key: value for key, value in _section(conditions, "graders").items() if key != "version"}
    prices = _section(_section(conditions, "rollout"), "prices")
    return SessionContext(
        run_id=safe_id(name),
        agent=str(policy.get("model") or policy.get("name") or "agent"),
        policy_version=safe_id(str(policy.get("name") or name)),
        model_version=policy.get("digest"),
        grader=next(iter(graders), "grader"),
        pass_threshold=pass_threshold,
        tools=tuple(tools) or None,
        price_table=_price_table(prices),
        release_channel=ReleaseChannel.OFFLINE_EVAL,
        has_tool_policy=bool(_section(conditions, "tools").get("policy")),
    )


def context_of(run: Path, file: str) -> SessionContext:
    """Of `rollouts/FILE.jsonl.gz` of a run.

    Raises:
        ConfigError: there is no run, or its config cannot be read.
        CheckpointError: its manifest is damaged.
    """
    if not isinstance(manifest := read_json(run, MANIFEST), dict):
        raise ConfigError(f"{run}: holds no run (no {MANIFEST})")
    config = _config(run)
    versions = _section([manifest, *manifest.get("resumed", [])][-1], "versions")
    grading, workflow = _section(config, "grading"), _section(config, "workflow")
    grader = _section(grading, "grader")
    grader_name = grader.get("name") or grader.get("type") or "grader"
    prices = _section(_section(config, "rollout"), "prices")
    tools = _section(versions, "tools")
    return SessionContext(
        run_id=run.resolve().name,
        agent=str(workflow.get("target") or config.get("name") or "agent"),
        file=file,
        model_version=versions.get("model"),
        reward_model_version=workflow.get("reward_model") or grader_name,
        grader=grader_name,
        pass_threshold=grading.get("pass_threshold"),
        tools=tuple(tools) or None,
        price_table=_price_table(prices),
        release_channel=ReleaseChannel.OFFLINE_EVAL if file.startswith(EVALUATED) else None,
        has_tool_policy=bool(_section(config, "tools").get("policy")),
    )


def run_hash(run: Path) -> str | None:
    """What the run was asked to do with what, as one digest."""
    return _section({"manifest": read_json(run, MANIFEST)}, "manifest").get("run_hash")


def _price_table(prices: Mapping[str, Any]) -> str | None:
    """A run that declares no price does not know what it costs, which is not nothing."""
    return digest(prices) if any(prices.values()) else None


def _config(run: Path) -> dict[str, Any]:
    try:
        config = plain_yaml(yaml.safe_load((run / CONFIG).read_text("utf-8")))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{run / CONFIG}: cannot be read ({error})") from error
    return config if isinstance(config, dict) else {}


def _section(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}
