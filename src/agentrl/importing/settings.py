"""What the hyperparameters of a hosted job come to here.

The service publishes neither its base learning rate nor its samples per example, so multipliers are taken of our own
defaults: a convention, which is printed line by line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentrl.config import EvaluationConfig, PPOConfig, RolloutConfig
from agentrl.importing.job import Job

MIN_SAMPLES = 2
"""Samples a task: with one there is nothing to compare."""
TURN_TOKENS = {"minimal": 512, "low": 1024, "default": 2048, "medium": 2048, "high": 4096}
"""Of one turn, thoughts included, by reasoning_effort."""
CONTEXT_TOKENS = 16_384


class Mapped(NamedTuple):
    """One line of the mapping that is printed."""

    hosted: str
    """Key and value of the job."""
    ours: str
    """Keys and values of the config."""
    why: str


@dataclass(frozen=True)
class Settings:
    """Sections of the config, and how each value came about."""

    rollout: dict[str, Any]
    ppo: dict[str, Any]
    evaluation: dict[str, Any]
    checkpoint: dict[str, Any]
    mapping: tuple[Mapped, ...]


def settings_of(job: Job, *, rows: int | None, longest_context: int | None) -> Settings:
    """Our settings for a job.

    Args:
        rows: tasks for training; None where the file is not here.
        longest_context: tokens that the baseline can read; None where nobody knows.
    """
    mapping: list[Mapped] = []
    ppo = _ppo(job, rows, mapping)
    evaluation, checkpoint = _evaluation(job, mapping)
    rollout = _rollout(job, longest_context, mapping)
    return Settings(rollout, ppo, evaluation, checkpoint, tuple(mapping))


def _ppo(job: Job, rows: int | None, mapping: list[Mapped]) -> dict[str, Any]:
    default = PPOConfig()
    given = job.hyperparameters
    batch = given.get("batch_size", default.tasks_per_step)
    mapping.append(
        Mapped(
            _hosted(job, "batch_size"),
            f"ppo.tasks_per_step: {batch}",
            "tasks drawn a step" if "batch_size" in given else "our default",
        )
    )
    steps = _steps(job, rows, batch, default.steps, mapping)
    multiplier = given.get("learning_rate_multiplier", 1)
    rate = float(f"{multiplier * default.learning_rate:.6g}")
    mapping.append(
        Mapped(
            _hosted(job, "learning_rate_multiplier"),
            f"ppo.learning_rate: {rate:g}",
            f"{multiplier:g} x our default, {default.learning_rate:g}; the service's own rate is not public",
        )
    )
    multiplier = given.get("compute_multiplier", 1)
    samples = max(MIN_SAMPLES, math.floor(multiplier * default.samples_per_task + 0.5))
    mapping.append(
        Mapped(
            _hosted(job, "compute_multiplier"),
            f"ppo.samples_per_task: {samples}",
            f"{multiplier:g} x our default, {default.samples_per_task}, rounded, at least {MIN_SAMPLES}",
        )
    )
    values = {"steps": steps, "tasks_per_step": batch, "samples_per_task": samples, "learning_rate": rate}
    if batch * samples < default.minibatches:
        values["minibatches"] = batch * samples
    return values


def _steps(job: Job, rows: int | None, batch: int, default: int, mapping: list[Mapped]) -> int:
    hosted, epochs = _hosted(job, "n_epochs"), job.hyperparameters.get("n_epochs")
    if epochs is not None and rows is not None:
        steps = math.ceil(int(epochs) * rows / batch)
        mapping.append(Mapped(hosted, f"ppo.steps: {steps}", f"{epochs} x {rows} rows / {batch} a step, rounded up"))
        return steps
    if epochs is not None:
        why = f"our default: the rows are not here; set it to {epochs} x rows / {batch}, rounded up"
    else:
        why = f"our default, {default * batch / rows:.2g} passes over {rows} rows" if rows else "our default"
    mapping.append(Mapped(hosted, f"ppo.steps: {default}", why))
    return default


def _evaluation(job: Job, mapping: list[Mapped]) -> tuple[dict[str, Any], dict[str, Any]]:
    default = EvaluationConfig()
    every = job.hyperparameters.get("eval_interval", default.every_steps)
    is_given = "eval_interval" in job.hyperparameters
    mapping.append(
        Mapped(
            _hosted(job, "eval_interval"),
            f"evaluation.every_steps: {every}, checkpoint.every_steps: {every}",
            "the service, too, saves a checkpoint at each evaluation" if is_given else "our default",
        )
    )
    evaluation: dict[str, Any] = {"every_steps": every}
    samples = job.hyperparameters.get("eval_samples")
    if samples is None:
        ours = f"evaluation.samples_per_item: {default.samples_per_item}, "
        ours += f"evaluation.periodic_samples_per_item: {default.periodic_samples_per_item}"
        mapping.append(Mapped(_hosted(job, "eval_samples"), ours, "our defaults: first and last; on the way"))
    else:
        evaluation |= {"samples_per_item": samples, "periodic_samples_per_item": samples}
        ours = f"evaluation.samples_per_item: {samples}, evaluation.periodic_samples_per_item: {samples}"
        mapping.append(Mapped(_hosted(job, "eval_samples"), ours, "at every evaluation alike, as there"))
    return evaluation, {"every_steps": every}


def _rollout(job: Job, longest_context: int | None, mapping: list[Mapped]) -> dict[str, Any]:
    default = RolloutConfig()
    calls = job.max_episode_steps if job.max_episode_steps is not None else default.max_tool_calls
    if not job.tools:
        calls = 0
    turns = calls + default.max_turns - default.max_tool_calls
    why = "steps are counted as tool calls; turns leave room for the answer"
    if job.max_episode_steps is None or not job.tools:
        why = "our defaults" if job.tools else "the job has no tools: one answer"
    hosted = f"max_episode_steps = {job.max_episode_steps if job.max_episode_steps is not None else 'not set'}"
    mapping.append(Mapped(hosted, f"rollout.max_tool_calls: {calls}, rollout.max_turns: {turns}", why))
    effort = job.hyperparameters.get("reasoning_effort", "default")
    context = min(CONTEXT_TOKENS, longest_context or CONTEXT_TOKENS)
    tokens = min(TURN_TOKENS[effort], max(1, context // 2))
    mapping.append(
        Mapped(
            _hosted(job, "reasoning_effort"),
            f"rollout.max_turn_tokens: {tokens}, rollout.max_context_tokens: {context}",
            "an open model thinks as its chat template makes it; this only is the room for it"
            + (", as far as the baseline can read" if context < CONTEXT_TOKENS else ""),
        )
    )
    return {"max_tool_calls": calls, "max_turns": turns, "max_turn_tokens": tokens, "max_context_tokens": context}


def _hosted(job: Job, key: str) -> str:
    value = job.hyperparameters.get(key)
    return f"{key} = {'auto' if value is None else value}"
