"""Runs whose episodes the tests of their pages look at."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentrl.runs import RunDirectory
from agentrl.runs.token_facts import TokenFacts, write_token_facts
from agentrl.runs.traces import to_trace
from agentrl.types import FailureClass, Grade, Rollout, StopReason, Task, ToolCall, ToolResult, Turn
from tests.factories import make_rollout

CONFIG = """
workflow: {target: t, baseline: nowhere}
grading: {url: http://127.0.0.1:1/grade, pass_threshold: 0.5}
"""
NASTY = (
    '<script>window.owned=1</script><img src=x onerror="window.owned=1"><svg onload=window.owned=1>'
    '<a href="javascript:window.owned=1">a</a></pre></details></textarea>\'"><b>bold</b> {{7*7}} '
    "[x](http://evil.test/) http://evil.test/ "
    "\x1b[31mred\x07 \u202eback\u202c \u2066x\u2069 \u200b\U000e0041 <!-- & &lt; \x00"
)
"""What no page may obey: markup, scripts, templates, escapes, changes of direction."""


def write_run(path: Path, **files: Sequence[Rollout]) -> Path:
    """A run with these files of rollouts; `validation_best` is validation-best."""
    with RunDirectory.create(path, config_yaml=CONFIG, manifest={"started_at": "2026-11-21T16:00:00+00:00"}) as run:
        for name, rollouts in files.items():
            run.write_rollouts(name.replace("_", "-"), rollouts)
    return path


def named(prefix: str, **fields: Any) -> Rollout:
    """An episode whose id tells where it is from."""
    rollout = make_rollout(**fields)
    return replace(rollout, id=f"trace_{prefix}_{rollout.task.id}-{rollout.sample_index}")


def write_demo(path: Path) -> Path:
    """60 episodes of 30 items before, 30 after, 8 of a step, with a failure of the infrastructure and token facts."""
    before, after = [], []
    for n in range(30):
        item, tools = f"q{n:02}", ("search", "search", "cat") if n % 3 else ("search", "cat", "cat", "cat", "calculate")
        for sample in range(2):
            before.append(
                named("base", task_id=item, sample_index=sample, score=(n % 4) / 4, tools=tools, tokens=20 + n,
                      seconds=3.0 + n / 10, output=f"page {n}: revenue {100 + n}", answer=f"It is {n}.")
            )  # fmt: skip
        after.append(
            named("best", task_id=item, score=1.0 if n != 1 else 0.0, tools=("search", "cat"), tokens=12,
                  answer=f"It is {n + 1}.", output=f"page {n}: revenue {100 + n}")
        )  # fmt: skip
    broken = named("base", task_id="q30", score=None, stop_reason=StopReason.INFRASTRUCTURE, answer="")
    before.append(
        replace(
            broken, broken_by=FailureClass.TOOL, error="tool search: 503 for 300 s", grade=Grade(None, "not graded")
        )
    )
    trained = [
        replace(named("train", task_id="t1", sample_index=n, score=float(n % 2), policy_version=4), seed=2**62 + n)
        for n in range(8)
    ]
    run = write_run(
        path, validation_baseline=before, train_000005=trained, validation_best=after, test_best=[named("test")]
    )
    sizes = [len(turn.token_ids) for turn in trained[0].turns]
    facts = TokenFacts(
        trained[0].id,
        advantages=tuple(tuple(0.5 * (-1) ** t * (t + 1) for t in range(size)) for size in sizes),
        values=tuple((0.25,) * size for size in sizes),
        logprobs=tuple((-0.5,) * size for size in sizes),
        ref_logprobs=tuple((-0.75,) * size for size in sizes),
    )
    write_token_facts(run, "train-000005", [facts])
    return run


def nasty_rollout(sample: int = 0) -> Rollout:
    """The payload wherever a model, a tool, a grader or a data set can write."""
    call = ToolCall("c1", NASTY, json.dumps({NASTY: NASTY, "n": 1}))
    results = (
        ToolResult("c1", NASTY, NASTY * 30, 0.5, is_error=True, attempts=2, is_cut=True),
        ToolResult("", "", NASTY, 0.0, is_error=True),
    )
    thought = f"<think>{NASTY}</think>{NASTY}"
    turns = (
        Turn((1, 2, 3), (-0.1, -2.0, -9.0), thought, (call,), results, (4,), 0, 0.5, 2, 1, 2),
        Turn((5,), (-0.3,), NASTY, (ToolCall("c2", "x", NASTY),), (), (), 0, 0.1),
        Turn((6,), (-0.2,), NASTY, (), (), (), 1, 0.2),
    )
    grade = Grade(
        0.5, explanation=NASTY, sub_scores={NASTY: 0.5}, holdout={f"h{NASTY}": 1.0}, holdout_missing={"lax": NASTY},
        errors=(NASTY,), tokens={NASTY: {"prompt": 3, NASTY: 4}}, cost_usd=0.01, version=NASTY, turn_scores=(0.5, 0.1),
    )  # fmt: skip
    task = Task(
        f"q<b>{NASTY[:20]}",
        ({"role": "user", "content": NASTY}, {"role": NASTY, "content": [{"type": "text", "text": NASTY}]}),
        {NASTY: NASTY},
    )
    return Rollout(
        f"trace_nasty-{sample}", task, sample, 7, (1,), turns, StopReason.FINAL, NASTY, 2.0, grade, NASTY
    )  # fmt: skip


OLD_KEYS = {"item", "seed", "failure_class", "error", "reasoning_tokens", "retries", "cost_usd", "policy_versions"}
OLD_TURN_KEYS = {"attempts", "reasoning_tokens", "malformed_calls", "policy_version", "seconds", "engine_logprobs"}


def write_old_run(path: Path) -> Path:
    """Traces without the keys that came later, and with values that are none."""
    old, odd = to_trace(make_rollout("q1")), to_trace(make_rollout("q2"))
    old = {key: value for key, value in old.items() if key not in OLD_KEYS}
    old["turns"] = [{key: value for key, value in turn.items() if key not in OLD_TURN_KEYS} for turn in old["turns"]]
    old["grade"] = {"score": 1.0}
    odd |= {"seed": None, "cost_usd": 0, "prompt_ids": "none", "policy_versions": None}
    odd["turns"][0] |= {"seconds": "long", "token_ids": None, "engine_logprobs": [None], "attempts": "twice"}
    odd["grade"] = {"score": 0.5, "sub_scores": [], "tokens": 3, "holdout": {"a": "b"}, "turn_scores": "none"}
    folder = write_run(path) / "rollouts"
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / "validation-baseline.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(trace) + "\n" for trace in (old, odd))
    return path
