"""What the sessions of a recorded file have in common, read from the run directory that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agentrl.errors import ConfigError
from agentrl.monitoring.session_record import ReleaseChannel, SessionContext, digest
from agentrl.runs.files import CONFIG, MANIFEST, read_json

EVALUATED = ("validation", "test")
"""First words of the names of files that evaluations leave."""


def context_of(run: Path, file: str) -> SessionContext:
    """Of `rollouts/FILE.jsonl.gz` of a run.

    Raises:
        ConfigError: there is no run, or its config cannot be read.
        CheckpointError: its manifest is damaged.
    """
    manifest, config = read_json(run, MANIFEST), _config(run)
    if manifest is None:
        raise ConfigError(f"{run}: holds no run (no {MANIFEST})")
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
        price_table=digest(prices) if any(prices.values()) else None,
        release_channel=ReleaseChannel.OFFLINE_EVAL if file.startswith(EVALUATED) else None,
    )


def run_hash(run: Path) -> str | None:
    """What the run was asked to do with what, as one digest."""
    return _section({"manifest": read_json(run, MANIFEST)}, "manifest").get("run_hash")


def _config(run: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((run / CONFIG).read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{run / CONFIG}: cannot be read ({error})") from error
    return config if isinstance(config, dict) else {}


def _section(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}
