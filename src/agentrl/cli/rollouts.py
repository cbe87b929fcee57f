"""`agentrl rollouts`: run a few episodes and read them, turn by turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Config, Json, Set, spare_the_cores, training_config
from agentrl.cli.policy_options import ApiKeyEnv, ApiModel, ApiUrl, Policy, policy_source
from agentrl.cli.screen import answered, block
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.chat import ChatFormat
    from agentrl.config import RunConfig
    from agentrl.evaluation.contender import Contender, PolicySource
    from agentrl.types import Rollout

Episodes = Annotated[int, typer.Option("--episodes", "-n", min=1, help="Episodes to run, one a task.")]
Split = Annotated[str, typer.Option(help="Which tasks: train, validation or test.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the sampling.  [default: the config's]")]
Checkpoint = Annotated[Path | None, typer.Option(help="A checkpoint's folder, as --policy takes it too.")]
Full = Annotated[bool, typer.Option("--full", help="Show long texts and outputs whole.")]
Out = Annotated[Path | None, typer.Option(help="Also write the rollouts here, one JSON object a line.")]


def rollouts(
    config: Config,
    episodes: Episodes = 4,
    split: Split = "validation",
    checkpoint: Checkpoint = None,
    policy: Policy = None,
    api_model: ApiModel = None,
    api_url: ApiUrl = None,
    api_key_env: ApiKeyEnv = None,
    seed: Seed = None,
    full: Full = False,
    out: Out = None,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Run episodes and show them turn by turn.

    As in training: the same engine, tools, limits and grader. Nothing is written but --out. Exits with 1 where no
    episode could be graded.
    """
    from agentrl.data.tasks import SPLITS
    from agentrl.errors import ConfigError
    from agentrl.runs.files import to_json
    from agentrl.runs.traces import to_trace

    if split not in SPLITS:
        raise ConfigError(f"--split: found {split!r}; allowed: {', '.join(SPLITS)}")
    if checkpoint is not None and not checkpoint.is_dir():
        raise ConfigError(f"--checkpoint {checkpoint}: no such folder")
    if checkpoint is not None and policy is not None:
        raise ConfigError("--checkpoint and --policy: found both; allowed: one of them")
    source = policy_source(str(checkpoint) if checkpoint else policy, api_model, api_url, api_key_env)
    resolved = training_config(config, overrides)

    spare_the_cores()
    done: list[Rollout] = []
    with ExitStack() as stack:
        file: TextIO | None = None
        if out is not None:
            try:
                file = stack.enter_context(out.open("w", encoding="utf-8"))
            except OSError as error:
                raise ConfigError(f"--out {out}: cannot be written ({error.strerror})") from error

        def show(rollout: Rollout, chat: ChatFormat | None, total: int) -> None:
            done.append(rollout)
            trace = to_json(to_trace(rollout))
            if file is not None:
                print(trace, file=file, flush=True)
            head = f"episode {len(done)} of {total}, task {printable(rollout.task.id)}"
            print(trace if as_json else "\n".join([head, *_lines(rollout, chat, full)]) + "\n", flush=True)

        _run(resolved, source, split=split, episodes=episodes, seed=seed, show=show)
    if not as_json:
        print(_summary(done))
    if not any(rollout.is_valid for rollout in done):
        sys.stdout.flush()
        raise typer.Exit(RUN_FAILED)


def _run(
    config: RunConfig,
    source: PolicySource,
    *,
    split: str,
    episodes: int,
    seed: int | None,
    show: Callable[[Rollout, ChatFormat | None, int], None],
) -> None:
    """Set everything up as training does, and hand over each episode when it is done."""
    from agentrl.config import training_sections
    from agentrl.data.tasks import Splits, load_tasks
    from agentrl.errors import ConfigError
    from agentrl.evaluation.contender import with_contender
    from agentrl.progress import SilentReporter

    tasks = getattr(load_tasks(training_sections(config).data), split)[:episodes]
    if not tasks:
        raise ConfigError(f"--split {split}: the config's data has no {split} tasks")

    async def work(contender: Contender) -> None:
        chat = contender.network.chat if contender.network else None
        await contender.engine.run(
            tasks,
            seed=config.seed if seed is None else seed,
            on_done=lambda rollout: show(rollout, chat, len(tasks)),
        )

    with_contender(config, source, work, reporter=SilentReporter(), splits=Splits((), tasks))


def _lines(rollout: Rollout, chat: ChatFormat | None, full: bool) -> Iterator[str]:
    """An episode to read: the question, each turn with its calls and outputs, and what came of it.

    Args:
        chat: the policy's; None for a model behind an API, whose turns are kept as text.
    """
    from agentrl.chat import parse_turn

    yield from block("question", str(rollout.task.messages[-1].get("content") or ""), full)
    for number, turn in enumerate(rollout.turns):
        yield f"  turn {number + 1}: {turn.output_tokens} tokens, {turn.seconds:.2f} s"
        if chat is None:
            parsed = parse_turn(turn.text, call_id_prefix="shown")
        else:
            parsed = chat.parse(turn.token_ids, call_id_prefix="shown")
        yield from block("thinks", parsed.reasoning, full)
        yield from block("says", parsed.text, full)
        for call, result in answered(turn):
            yield from block("calls", call, full)
            if result is not None:
                marks = [f"never called: {result.denied}"] if result.denied else ["error"] * result.is_error
                marks += ["cut"] * result.is_cut
                marks += [f"{result.attempts} attempts"] * (result.attempts > 1)
                yield from block(" ".join(["gets", *(f"({mark})" for mark in marks)]), result.output, full)
    yield f"  {_verdict(rollout)}"


def _verdict(rollout: Rollout) -> str:
    score = "no score" if rollout.grade.score is None else f"score {rollout.grade.score:g}"
    parts = [f"{rollout.outcome.value} ({rollout.stop_reason.value})", score]
    parts += [f"{len(rollout.tool_calls)} calls", f"{rollout.output_tokens} tokens", f"{rollout.seconds:.2f} s"]
    parts += [f"{rollout.cost_usd:.4f} USD"] if rollout.cost_usd else []
    why = rollout.error or rollout.grade.reason
    return ", ".join(parts) + (f": {printable(why)}" if why else "")


def _summary(done: list[Rollout]) -> str:
    valid = [rollout for rollout in done if rollout.is_valid]
    lost = f"; {len(done) - len(valid)} infra_failed, which count for nothing" if len(valid) < len(done) else ""
    if not valid:
        return f"{len(done)} episodes{lost}"

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return (
        f"{len(done)} episodes: mean score {mean([each.grade.score or 0.0 for each in valid]):.3f}, "
        f"{mean([len(each.tool_calls) for each in valid]):.1f} calls, "
        f"{mean([each.output_tokens for each in valid]):.0f} tokens, "
        f"{mean([each.seconds for each in valid]):.2f} s{lost}"
    )
