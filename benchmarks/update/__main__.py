"""Measure reference + loss + backward of agentrl beside trl.

    python -m benchmarks.update [--part time|memory|growth] [--repeats 3] [--threads 2] [--cpu-clock] [--json]

Wall-clock seconds, or with --cpu-clock those that the processor worked: on one thread they are the time of a machine
that nobody else uses.

time: on 32 recorded trajectories of the FinQA task, both sides in turn, each at its best piece size; first it is
    checked that both arrive at the same gradient.
memory: the growth of the resident set during one update of a model with 50,000 tokens on contexts of 4,096, each side
    in a process of its own.
growth: the time of our update from 1,000 to 64,000 tokens a batch, and how well a straight line fits.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import correlation, median
from typing import Any

import torch

from .batches import Batch, finqa, long_contexts
from .sides import SIDES, TOKENIZER, Ours, Trl, gradients, make_checkpoint

Clock = Callable[[], float]
TRAJECTORIES = 32
TOKENS_AT_ONCE, ROWS_AT_ONCE = (512, 1024, 2048, 4096, 8192), (1, 2, 4, 8, 16, 32)
LARGE = {"vocab_size": 50_000, "hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6}
LARGE |= {"num_key_value_heads": 3, "head_dim": 32}


def seconds(side: Any, batch: Batch, at_once: int, clock: Clock) -> float:
    started = clock()
    side.update(batch, at_once)
    return clock() - started


def compare_time(folder: Path, repeats: int, batch: Batch, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """Medians over interleaved repeats, at every piece size."""
    ours, trl = Ours(folder), Trl(folder)
    ours.update(batch, 4096)
    trl.update(batch, 4)
    found, wanted = gradients(ours.model), gradients(trl.model)
    largest = max(float(each.abs().max()) for each in wanted.values())
    apart = max(float((found[name] - wanted[name]).abs().max()) for name in wanted) / largest
    if apart > 1e-4:
        raise SystemExit(f"the gradients differ by {apart:.1e} of the largest: these are two objectives")
    runs = [(ours, n) for n in TOKENS_AT_ONCE] + [(trl, n) for n in ROWS_AT_ONCE if n <= len(batch.lengths)]
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for (side, at_once), taken in zip(runs, times, strict=True):
            taken.append(seconds(side, batch, at_once, clock))
    medians = [median(taken) for taken in times]
    by_tokens = dict(zip(TOKENS_AT_ONCE, medians, strict=False))
    by_rows = dict(zip(ROWS_AT_ONCE, medians[len(TOKENS_AT_ONCE) :], strict=False))
    return {
        "gradients_apart": apart,
        "tokens": batch.tokens,
        "agentrl_seconds_by_microbatch_tokens": by_tokens,
        "trl_seconds_by_rows": by_rows,
        "ratio": min(by_rows.values()) / min(by_tokens.values()),
    }


def peak_bytes(side: str, folder: Path, at_once: int, batch: Batch) -> int:
    """Growth of the process's peak during one update, gradients included."""
    made = SIDES[side](folder)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made.update(batch, at_once)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024


def compare_memory(folder: Path, threads: int) -> dict[str, Any]:
    """Each side at two piece sizes, in mebibytes; the ratio is that of the smaller ones."""
    found = {}
    for side, at_once in (("agentrl", 4096), ("agentrl", 8192), ("trl", 1), ("trl", 4)):
        command = [sys.executable, "-m", "benchmarks.update", "--measure", side, str(at_once), str(folder)]
        done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=True)
        found[f"{side} {at_once}"] = int(done.stdout.split()[-1]) / 2**20
    return {
        "mib": found,
        "ratio": min(found["agentrl 4096"], found["agentrl 8192"]) / min(found["trl 1"], found["trl 4"]),
    }


def measure_growth(folder: Path, repeats: int, clock: Clock) -> dict[str, Any]:
    """Seconds by tokens of a batch."""
    ours = Ours(folder)
    batches = [finqa(n, vocabulary=2953) for n in (4, 8, 16, 32, 64, 140)]
    times: list[list[float]] = [[] for _ in batches]
    for _ in range(repeats):
        for batch, taken in zip(batches, times, strict=True):
            taken.append(seconds(ours, batch, 4096, clock))
    points = {batch.tokens: median(taken) for batch, taken in zip(batches, times, strict=True)}
    return {"seconds_by_tokens": points, "r_squared": correlation(list(points), list(points.values())) ** 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("time", "memory", "growth"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--trajectories", type=int, default=TRAJECTORIES, help="of the comparison of times")
    parser.add_argument("--cpu-clock", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # side, at once, folder: the memory of one side
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_clock else time.perf_counter
    if options.measure:
        side, at_once, folder = options.measure
        batch = long_contexts(4, length=4096, vocabulary=LARGE["vocab_size"])
        print(peak_bytes(side, Path(folder), int(at_once), batch))
        return
    results: dict[str, Any] = {"threads": options.threads, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as name:
        random, large = (Path(name) / each for each in ("random", "large"))
        if options.part in (None, "time"):
            batch = finqa(options.trajectories, vocabulary=2953)
            results["time, FinQA baseline"] = compare_time(TOKENIZER, options.repeats, batch, clock)
            results["time, random 3.7 M"] = compare_time(make_checkpoint(random), options.repeats, batch, clock)
        if options.part in (None, "memory"):
            results["memory"] = compare_memory(make_checkpoint(large, **LARGE), options.threads)
        if options.part in (None, "growth"):
            results["growth"] = measure_growth(TOKENIZER, options.repeats, clock)
    print(json.dumps(results) if options.json else table(results))


def table(results: dict[str, Any], indent: str = "") -> str:
    lines = []
    for name, value in results.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", table(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<36}{value:.4g}" if isinstance(value, float) else f"{indent}{name:<36}{value}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
