"""How large a run will be: episodes, calls, tokens, memory, time and money, from a config and stated assumptions.

Plain arithmetic, no torch. Every assumption has a value and a source, and both are shown beside the result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig
from agentrl.config.inference import sessions_that_fit
from agentrl.errors import BaselineError

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Assumption:
    """A number that the forecast stands on."""

    value: float
    source: str
    spread: float = 0.0
    """Standard deviation over episodes, where it was measured."""
    episodes: int = 0
    """From how many episodes the value was measured."""

    def error(self, episodes: float, *, alike: int) -> float:
        """Of the sum over so many episodes to come: two standard errors, of the draw and of the mean together.

        Args:
            alike: episodes of one task, which are taken to vary together.
        """
        if not self.episodes:
            return 0.0
        return 2 * self.spread * math.sqrt(alike * (episodes + episodes**2 / self.episodes))


@dataclass(frozen=True)
class Assumptions:
    """What a config does not say. Means over episodes."""

    prompt_tokens: Assumption
    calls_per_episode: Assumption
    turns_per_episode: Assumption
    """The answer's included."""
    tokens_per_turn: Assumption
    tool_output_tokens: Assumption
    """Of one call, with what the chat template puts around it."""
    tool_seconds: Assumption
    grader_seconds: Assumption
    sampled_tokens_per_second: Assumption
    """Of the whole engine, episodes side by side."""
    trained_tokens_per_second: Assumption
    """Of the update, forward and backward, over the whole conversations."""
    usd_per_tool_call: Assumption
    usd_per_grade: Assumption
    usd_per_hour: Assumption
    """Of the machine."""

    def changed(self, values: Mapping[str, float | None], source: str) -> Assumptions:
        """With the values that are given."""
        return replace(self, **{name: Assumption(value, source) for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class ModelShape:
    """What the keys and values of a token take."""

    vocabulary: int
    layers: int
    kv_heads: int
    head_dim: int

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Keys and values, all layers; a sliding window would hold less."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES[dtype]


def model_shape(baseline: str | Path) -> ModelShape:
    """Read from the checkpoint's config.json, in the words of Llama, Qwen and Gemma, or of GPT-2.

    Raises:
        BaselineError: no such file, or one that does not say.
    """
    path = Path(baseline) / "config.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: cannot be read ({error})") from error
    found = found.get("text_config") or found

    def first(*names: str) -> int | None:
        return next((int(found[name]) for name in names if found.get(name)), None)

    layers, heads, width = first("num_hidden_layers", "n_layer"), first("num_attention_heads", "n_head"), None
    if heads:
        width = first("head_dim") or (first("hidden_size", "n_embd") or 0) // heads
    kv_heads, vocabulary = first("num_key_value_heads") or heads, first("vocab_size")
    if not (layers and kv_heads and width and vocabulary):
        raise BaselineError(f"{path}: does not say how many layers, heads and tokens the model has")
    return ModelShape(vocabulary, layers, kv_heads, width)


@dataclass(frozen=True)
class Figure:
    """One line of the forecast."""

    section: str
    name: str
    value: float
    unit: str = ""
    note: str = ""
    error: float = 0.0
    """Two standard errors, where the assumption behind it was measured."""


@dataclass(frozen=True)
class Forecast:
    """The whole of it."""

    assumptions: Assumptions
    figures: tuple[Figure, ...] = field(repr=False)

    def __getitem__(self, name: str) -> float:
        return next(figure.value for figure in self.figures if figure.name == name)


def episodes_at_once(config: RunConfig, *, validation: int, test: int, fitting: int | None = None) -> int:
    """How many episodes are under way together, at most.

    Args:
        validation, test: how many tasks the splits have.
        fitting: how many the KV cache holds, for an engine in this process.
    """
    evaluation = config.evaluation
    items = min(validation, evaluation.validation_items or validation)
    tested = test * evaluation.test_samples_per_item * evaluation.run_test
    largest = max(config.ppo.tasks_per_step * config.ppo.samples_per_task, items * evaluation.samples_per_item, tested)
    limits = [largest, config.rollout.max_concurrent]
    if config.inference.kind == "in_process":
        limits += [config.inference.max_batch, *([max(1, fitting)] if fitting is not None else [])]
    return min(limits)


def peak_requests(config: RunConfig, at_once: int) -> dict[str, int]:
    """Requests at once, at most, by endpoint: one call an episode, under the endpoint's own limit."""
    limits: dict[str, int] = {}
    if config.tools is not None:
        limits |= {f"tool {each.name}": each.max_concurrency for each in config.tools.endpoints}
        limits |= {f"mcp {each.name}": each.max_concurrency for each in config.tools.mcp}
    if config.grading is not None:
        limits |= {f"grader {each.name or each.type}": each.max_concurrency for _, each in config.grading.endpoints}
    return {name: min(limit, at_once) for name, limit in limits.items()}


def forecast(config: RunConfig, assumptions: Assumptions, shape: ModelShape, *, validation: int, test: int) -> Forecast:
    """What a run comes to.

    Args:
        validation, test: how many tasks the splits have.
    """
    return Forecast(assumptions, tuple(_figures(config, assumptions, shape, validation, test)))


def _figures(config: RunConfig, given: Assumptions, shape: ModelShape, validation: int, test: int) -> Iterator[Figure]:
    ppo, calls = config.ppo, min(given.calls_per_episode.value, config.rollout.max_tool_calls)
    step_episodes = ppo.tasks_per_step * ppo.samples_per_task
    warm_up = step_episodes if ppo.critic_warmup_steps and ppo.steps else 0
    fewest, most = _evaluation_episodes(config, validation, test)
    training = ppo.steps * step_episodes + warm_up
    total = training + most
    yield Figure("episodes", "episodes_per_step", step_episodes)
    yield Figure("episodes", "training_episodes", training, note="with the critic's warm-up" if warm_up else "")
    span = f"{training + fewest:,} where the last step is also the best" if fewest != most else ""
    yield Figure("episodes", "episodes", total, note=f"with evaluations; {span}".removesuffix("; "))

    error = partial(given.calls_per_episode.error, alike=ppo.samples_per_task)
    yield Figure("requests", "tool_calls_per_step", step_episodes * calls, error=error(step_episodes))
    yield Figure("requests", "tool_calls", total * calls, error=error(total))
    yield Figure("requests", "grades", total)
    session_bytes = shape.kv_bytes_per_token(config.policy.dtype) * config.rollout.max_context_tokens
    fitting = sessions_that_fit(config.inference.kv_cache_bytes, session_bytes)
    at_once = episodes_at_once(config, validation=validation, test=test, fitting=fitting)
    for name, peak in peak_requests(config, at_once).items():
        yield Figure("requests", f"peak_requests {name}", peak, note="at once, at most")

    turns = min(given.turns_per_episode.value, config.rollout.max_turns)
    sampled, shown = turns * given.tokens_per_turn.value, calls * given.tool_output_tokens.value
    room = max(0.0, config.rollout.max_context_tokens - given.prompt_tokens.value)
    if sampled + shown > room:  # the episode ends there
        sampled, shown = (part * room / (sampled + shown) for part in (sampled, shown))
    sampled = min(sampled, config.rollout.max_output_tokens or sampled)
    read = given.prompt_tokens.value + shown
    context = read + sampled
    yield Figure("tokens", "tokens_per_episode", context, "tokens", "prompt, turns and tool output")
    yield Figure("tokens", "sampled_tokens_per_step", step_episodes * sampled, "tokens")
    yield Figure("tokens", "prompt_tokens", total * given.prompt_tokens.value, "tokens")
    yield Figure("tokens", "sampled_tokens", total * sampled, "tokens")
    yield Figure("tokens", "tool_output_tokens", total * shown, "tokens")

    token_bytes = shape.kv_bytes_per_token(config.policy.dtype)
    yield Figure("memory", "kv_bytes_per_token", token_bytes, "bytes")
    yield Figure("memory", "kv_bytes_per_episode", token_bytes * context, "bytes")
    yield Figure("memory", "kv_bytes_per_longest_episode", session_bytes, "bytes", "of rollout.max_context_tokens")
    if config.inference.kind == "in_process":
        yield Figure("memory", "episodes_that_fit", fitting, note="of the longest ones, in inference.kv_cache_bytes")
    yield Figure("memory", "episodes_at_once", at_once)

    def rollout_seconds(episodes: float) -> float:
        waiting = calls * given.tool_seconds.value + given.grader_seconds.value
        return max(episodes * sampled / given.sampled_tokens_per_second.value, math.ceil(episodes / at_once) * waiting)

    step_seconds = rollout_seconds(step_episodes)
    update_seconds = ppo.epochs * step_episodes * context / given.trained_tokens_per_second.value
    seconds = ppo.steps * (step_seconds + update_seconds) + rollout_seconds(warm_up) + rollout_seconds(most)
    yield Figure("time", "rollout_seconds_per_step", step_seconds, "seconds", "the longer of sampling and waiting")
    yield Figure("time", "update_seconds_per_step", update_seconds, "seconds")
    yield Figure("time", "hours", seconds / 3600, "hours", "start and checkpoints not counted")

    prices = config.rollout.prices
    tool_usd = total * calls * (given.usd_per_tool_call.value or prices.usd_per_tool_call)
    token_usd = total * prices.cost_usd(prompt_tokens=round(read), sampled_tokens=round(sampled), tool_calls=0)
    grade_usd, machine_usd = total * given.usd_per_grade.value, seconds / 3600 * given.usd_per_hour.value
    yield Figure("cost", "usd_tool_calls", tool_usd, "USD")
    yield Figure("cost", "usd_grades", grade_usd, "USD")
    yield Figure("cost", "usd_tokens", token_usd, "USD", "at rollout.prices")
    yield Figure("cost", "usd_machine", machine_usd, "USD")
    yield Figure("cost", "usd", tool_usd + grade_usd + token_usd + machine_usd, "USD")


def _evaluation_episodes(config: RunConfig, validation: int, test: int) -> tuple[int, int]:
    """Fewest and most: the best policy is measured again unless it is the last one or the baseline."""
    evaluation, steps = config.evaluation, config.ppo.steps
    items = min(validation, evaluation.validation_items or validation)
    full, tested = items * evaluation.samples_per_item, test * evaluation.test_samples_per_item * evaluation.run_test
    periodic = steps // evaluation.every_steps + (steps % evaluation.every_steps > 0)
    on_the_way = full + periodic * items * evaluation.periodic_samples_per_item
    if not steps:
        return on_the_way + tested, on_the_way + tested
    return on_the_way + full + tested, on_the_way + 2 * full + 2 * tested
