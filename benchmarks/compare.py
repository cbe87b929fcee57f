"""Seconds of `agentrl compare`, start-up and pages included: `python -m benchmarks.compare [--runs A B] [--json]`.

Two evaluations of episodes as FinQA has them (five calls, twenty tokens a turn, outputs of 400 characters), or two of
your own; each time in a process of its own. Medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agentrl.evaluation.evaluation_files import Evaluation, write_evaluation
from agentrl.types import Grade, Rollout, StopReason, Task, ToolCall, ToolResult, Turn

TOOLS = ("search", "list", "cat", "calculate")
SAMPLES = 3


def episode(item: int, sample: int, *, skill: float, side: str) -> Rollout:
    """One rollout; the more skill, the fewer calls and the more often right."""
    chance = random.Random(f"{side}/{item}/{sample}")
    n_calls = chance.randint(1, 9 - int(4 * skill))
    turns = tuple(_turn(chance, f"call_{item}_{sample}_{n}", n < n_calls) for n in range(n_calls + 1))
    right = chance.random() < skill * (1 - random.Random(item).random() / 2)
    return Rollout(
        id=f"trace_{side}_{item}_{sample}",
        task=Task(
            f"item-{item:06d}", ({"role": "user", "content": f"question {item}"},), {"tags": [f"tag-{item % 5}"]}
        ),
        sample_index=sample,
        seed=sample,
        prompt_ids=tuple(range(60)),
        turns=turns,
        stop_reason=StopReason.FINAL,
        answer="42",
        seconds=chance.expovariate(0.3),
        grade=Grade(float(right)),
    )


def _turn(chance: random.Random, call_id: str, is_call: bool) -> Turn:
    call = ToolCall(call_id, chance.choice(TOOLS), json.dumps({"query": f"word {chance.randint(0, 5)}"}))
    ids = tuple(chance.randint(0, 2000) for _ in range(20))
    return Turn(
        token_ids=ids,
        engine_logprobs=tuple(-chance.random() for _ in ids),
        text=f"<tool_call>{call.arguments}</tool_call>",
        tool_calls=(call,) if is_call else (),
        tool_results=(ToolResult(call.id, call.name, "some text " * 40, 0.01),) if is_call else (),
        observation_ids=tuple(range(80)) if is_call else (),
        policy_version=0,
        seconds=0.3,
    )


def two_files(folder: Path, n_rollouts: int) -> list[str]:
    """Evaluation files of half as many rollouts each."""
    names = []
    for side, skill in (("before", 0.5), ("after", 0.8)):
        items = range(n_rollouts // 2 // SAMPLES)
        rollouts = tuple(episode(item, n, skill=skill, side=side) for item in items for n in range(SAMPLES))
        evaluation = Evaluation(side, {"kind": "baseline"}, {}, 0.75, TOOLS, rollouts)
        names.append(str(write_evaluation(folder / f"{side}-{n_rollouts}.json", evaluation)))
    return names


def seconds(sources: list[str], folder: Path) -> tuple[float, float]:
    """Of one comparison with all its pages: wall, and of the processor, which other work here changes less."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "agentrl", "compare", *sources, "--out", str(folder / "out")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - started, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[600, 6000], help="of both sides together")
    parser.add_argument(
        "--runs", nargs=2, metavar=("A", "B"), help="sources of `agentrl compare`, in place of made ones"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {" ".join(options.runs): options.runs} if options.runs else {}
        cases = cases or {f"{n} rollouts": two_files(folder, n) for n in options.rollouts}
        for case, sources in cases.items():
            found = [seconds(sources, folder) for _ in range(options.repeats)]
            wall, cpu = zip(*found, strict=True)
            figures[case] = {"median": statistics.median(wall), "lowest": min(wall), "highest": max(wall)}
            figures[case]["processor"] = statistics.median(cpu)
            print(f"{case:24} {', '.join(f'{name} {value:.2f} s' for name, value in figures[case].items())}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "peak_mib": round(peak)}
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.json:
        print(json.dumps({"seconds": figures, **machine}))


if __name__ == "__main__":
    main()
