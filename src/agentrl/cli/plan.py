"""`agentrl plan`: what a run will take, before anything is spent."""

from __future__ import annotations

import asyncio
import json
import math
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.options import Config, Json, Set, training_config

if TYPE_CHECKING:
    from agentrl.config import RunConfig
    from agentrl.data.tasks import Splits
    from agentrl.sizing import Assumptions, Figure, Forecast

Given = Annotated[float | None, typer.Option(min=0.0, metavar="N", help="In place of the assumption of that name.")]
Speed = Annotated[float | None, typer.Option(min=0.001, metavar="N", help="In place of the assumption of that name.")]
FromRun = Annotated[Path | None, typer.Option(help="Take the assumptions from what this run measured.")]
Probe = Annotated[bool, typer.Option("--probe", help="Call the endpoints a few times to learn their latency.")]

TOOL_OUTPUT_TOKENS, LATENCY_SECONDS = 200.0, 0.2
SAMPLED_PER_SECOND, TRAINED_PER_SECOND = 500.0, 2000.0
CHARS_PER_TOKEN = 4.0
COUNTED_TASKS = 200
GENERATION_TAG = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")  # transformers' own, around what is trained on


def plan(
    config: Config,
    from_run: FromRun = None,
    probe: Probe = False,
    calls_per_episode: Given = None,
    turns_per_episode: Given = None,
    tokens_per_turn: Given = None,
    prompt_tokens: Given = None,
    tool_output_tokens: Given = None,
    tool_seconds: Given = None,
    grader_seconds: Given = None,
    sampled_tokens_per_second: Speed = None,
    trained_tokens_per_second: Speed = None,
    usd_per_tool_call: Given = None,
    usd_per_grade: Given = None,
    usd_per_hour: Given = None,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Forecast calls, tokens, memory, time and cost of a run.

    Assumptions are shown beside the result: from the config's limits, from an earlier run (--from-run), from the
    endpoints (--probe) or from the options, the later ones before the earlier.
    """
    given = {name: value for name, value in locals().items() if isinstance(value, float)}
    from agentrl.config import training_sections
    from agentrl.data.tasks import load_tasks
    from agentrl.runs.files import to_json
    from agentrl.sizing import forecast, model_shape

    resolved = training_config(config, overrides)
    sections = training_sections(resolved)
    splits = load_tasks(sections.data)
    shape = model_shape(resolved.workflow.baseline)
    assumptions = from_limits(resolved, splits)
    if from_run is not None:
        assumptions = from_rollouts(assumptions, from_run)
    if probe:
        assumptions = _from_endpoints(assumptions, resolved, splits)
    assumptions = assumptions.changed(given, "given")
    found = forecast(resolved, assumptions, shape, validation=len(splits.validation), test=len(splits.test))
    if as_json:
        record = {"assumptions": _record(vars(assumptions)), "figures": [vars(figure) for figure in found.figures]}
        print(to_json(record, indent=2))
    else:
        print(_table(found))


def _record(assumptions: dict[str, Any]) -> dict[str, Any]:
    return {name: vars(assumption) for name, assumption in assumptions.items()}


def from_limits(config: RunConfig, splits: Splits) -> Assumptions:
    """What the config allows at most, and round numbers where it says nothing."""
    from agentrl.sizing import Assumption, Assumptions

    calls = min(config.rollout.max_tool_calls, config.rollout.max_turns - 1)
    default = "a default"
    return Assumptions(
        prompt_tokens=Assumption(*_prompt_tokens(config, splits)),
        calls_per_episode=Assumption(calls, "rollout.max_tool_calls and max_turns: at most"),
        turns_per_episode=Assumption(calls + 1, "one a call, and the answer"),
        tokens_per_turn=Assumption(config.rollout.max_turn_tokens, "rollout.max_turn_tokens: at most"),
        tool_output_tokens=Assumption(TOOL_OUTPUT_TOKENS, default),
        tool_seconds=Assumption(LATENCY_SECONDS, default),
        grader_seconds=Assumption(LATENCY_SECONDS, default),
        sampled_tokens_per_second=Assumption(SAMPLED_PER_SECOND, default),
        trained_tokens_per_second=Assumption(TRAINED_PER_SECOND, default),
        usd_per_tool_call=Assumption(config.rollout.prices.usd_per_tool_call, "rollout.prices"),
        usd_per_grade=Assumption(0.0, default),
        usd_per_hour=Assumption(0.0, default),
    )


def _prompt_tokens(config: RunConfig, splits: Splits) -> tuple[float, str]:
    """Mean tokens of the training tasks' prompts, and how they were counted."""
    from agentrl.chat import announce_budget

    tasks, limits = splits.train[:COUNTED_TASKS], config.rollout
    prompts = [
        (announce_budget(task.messages, limits.max_tool_calls) if limits.announce_budget else list(task.messages), task)
        for task in tasks
    ]
    try:
        from tokenizers import Tokenizer

        baseline = Path(config.workflow.baseline)
        tokenizer = Tokenizer.from_file(str(baseline / "tokenizer.json"))
        render = _chat_template(baseline)
        texts = [render(messages=messages, tools=task.item.get("tools") or None) for messages, task in prompts]
        tokens = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    except Exception:  # files that are missing or not understood; a template may raise anything
        written = [json.dumps([messages, task.item.get("tools")], ensure_ascii=False) for messages, task in prompts]
        return statistics.mean(
            map(len, written)
        ) / CHARS_PER_TOKEN, f"train tasks, {CHARS_PER_TOKEN:g} characters a token"
    return statistics.mean(tokens), "train tasks in the baseline's chat template"


def _chat_template(baseline: Path) -> Callable[..., str]:
    """The baseline's template without the library that it is written for, which would load torch."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    settings = json.loads((baseline / "tokenizer_config.json").read_text("utf-8"))
    file = baseline / "chat_template.jinja"
    text = file.read_text("utf-8") if file.is_file() else settings["chat_template"]
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["strftime_now"] = time.strftime
    special = {key: value for key, value in settings.items() if key.endswith("_token") and isinstance(value, str)}
    template = environment.from_string(GENERATION_TAG.sub("", text))
    return partial(template.render, add_generation_prompt=True, **special)


def from_rollouts(assumptions: Assumptions, run: Path) -> Assumptions:
    """What a run's training rollouts and metrics say; rollouts that infrastructure ended do not count.

    Raises:
        CheckpointError: the run has no training step to learn from.
    """
    from dataclasses import replace

    from agentrl.errors import CheckpointError
    from agentrl.runs import read_rollouts
    from agentrl.runs.files import read_metrics
    from agentrl.sizing import Assumption

    metrics = {int(row["step"]): row for row in read_metrics(run)}
    steps = {step: read_rollouts(run, f"train-{step:06d}") for step in metrics}
    traces = [trace for step in steps.values() for trace in step if trace.get("outcome") != "infra_failed"]
    if not traces:
        raise CheckpointError(f"{run}: has no rollouts of a training step to learn from")
    turns = [turn for trace in traces for turn in trace["turns"]]
    made = [[r for turn in trace["turns"] for r in turn["tool_results"] if r["seconds"] > 0] for trace in traces]
    calls = [float(len(each)) for each in made]
    sampled = sum(len(turn["token_ids"]) for turn in turns)
    shown = sum(len(turn["observation_ids"]) for turn in turns)
    read = sum(len(trace["prompt_ids"]) for trace in traces)
    waits = [result["seconds"] for each in made for result in each]
    grades = [trace["grade"]["seconds"] for trace in traces]

    def mean(values: list[float]) -> float:
        return statistics.mean(values) if values else 0.0

    measured: dict[str, float] = {
        "prompt_tokens": read / len(traces),
        "turns_per_episode": len(turns) / len(traces),
        "tokens_per_turn": sampled / max(1, len(turns)),
        "tool_output_tokens": shown / max(1.0, sum(calls)),
        "tool_seconds": mean(waits),
        "grader_seconds": mean(grades),
    }
    seconds = {
        key: sum(row.get(key) or 0.0 for row in metrics.values()) for key in ("seconds_rollout", "seconds_update")
    }
    if seconds["seconds_rollout"]:
        measured["sampled_tokens_per_second"] = sampled / seconds["seconds_rollout"]
    if seconds["seconds_update"]:
        measured["trained_tokens_per_second"] = (read + sampled + shown) / seconds["seconds_update"]
    source = f"{len(traces)} rollouts of {run}"
    spread = statistics.stdev(calls) if len(calls) > 1 else 0.0
    of_calls = Assumption(mean(calls), source, spread, len(calls))
    return replace(assumptions.changed(measured, source), calls_per_episode=of_calls)


def _from_endpoints(assumptions: Assumptions, config: RunConfig, splits: Splits) -> Assumptions:
    from agentrl.config import training_sections
    from agentrl.tools.checks import latencies
    from agentrl.tools.serve import serving

    sections = training_sections(config)
    values = {"data.path": sections.data.path} if sections.data.path else {}
    with serving(sections.tools.serve, values) as urls:
        tool, grader = asyncio.run(
            latencies(sections.tools.endpoints, sections.grading, splits.train, base_url=urls[0] if urls else "")
        )
    return assumptions.changed({"tool_seconds": tool, "grader_seconds": grader}, "median of a few calls")


def _table(found: Forecast) -> str:
    """Assumptions, then figures by section, as aligned text."""
    rows = [("assumptions", "", "")]
    rows += [(f"  {name}", _number(each.value), each.source) for name, each in vars(found.assumptions).items()]
    section = ""
    for figure in found.figures:
        if figure.section != section:
            rows += [("", "", ""), (figure.section, "", "")]
            section = figure.section
        error = f"± {_number(figure.error)}" if figure.error else ""
        rows.append((f"  {figure.name}", _shown(figure), ", ".join(part for part in (error, figure.note) if part)))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {value:>{widths[1]}}  {note}".rstrip() for name, value, note in rows)


def _shown(figure: Figure) -> str:
    if figure.unit == "bytes":
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if figure.value >= size:
                return f"{figure.value / size:.1f} {unit}"
    if figure.unit == "USD":
        return f"{figure.value:,.2f} USD"
    return f"{_number(figure.value)} {figure.unit if figure.unit != 'tokens' else ''}".strip()


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "n/a"
    return f"{value:,.0f}" if value == round(value) or value >= 1000 else f"{value:,.3g}"
