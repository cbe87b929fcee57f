"""The figures of `agentrl train configs/finqa.yaml` over several seeds: mean and spread.

    python benchmarks/finqa_seeds.py [--seeds 1 2 3] [--set a.b=c ...] [--out DIR]

Each seed is one run of the command line, one after the other: two at once on two cores would time each other.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Summary = Mapping[str, Any]


def relative(summary: Summary, split: str, metric: str) -> float:
    """Change of a metric, best against baseline, as a fraction of the baseline; NaN where the baseline is 0."""
    change = summary["comparison"][split]["differences"][metric]["relative"]
    return math.nan if change is None else float(change)


def figures(summary: Summary) -> dict[str, float]:
    """The rows of the table for one run."""
    validation, test = (summary["comparison"][split] for split in ("validation", "test"))
    low = test["differences"]["reward"]["change_interval"][0]
    return {
        "validation reward, baseline": summary["baseline"]["reward"],
        "validation reward, change": validation["differences"]["reward"]["change"],
        "test reward, baseline": summary["test"]["baseline"]["reward"],
        "test reward, change": test["differences"]["reward"]["change"],
        "test reward, lower end of the paired 95 % interval": low,
        "tool calls, relative change (validation)": relative(summary, "validation", "tool_calls"),
        "tool calls, relative change (test)": relative(summary, "test", "tool_calls"),
        "output tokens, relative change (validation)": relative(summary, "validation", "output_tokens"),
        "output tokens, relative change (test)": relative(summary, "test", "output_tokens"),
        "same-tool repeats, relative change (validation)": relative(summary, "validation", "same_tool_repeats"),
        "items with lower reward and more calls (fraction)": validation["worse_more_fraction"],
        "best step": summary["best_step"],
        "wall time, minutes": summary["wall_seconds"] / 60,
        "peak memory, GB": summary["peak_rss_bytes"] / 1e9,
        "reference unchanged (1 is yes)": float(
            summary["reference_digest_before"] == summary["reference_digest_after"]
        ),
    }


def run(seed: int, folder: Path, overrides: Sequence[str]) -> Summary:
    sets = [word for override in (f"seed={seed}", *overrides) for word in ("--set", override)]
    command = [sys.executable, "-m", "agentrl", "train", "configs/finqa.yaml", "--run-dir", str(folder), *sets]
    subprocess.run(command, check=True, stdout=sys.stderr)
    summary: Summary = json.loads((folder / "summary.json").read_text())
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--out", type=Path, help="keeps the run directories [default: a temporary folder]")
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="finqa-seeds-"))
    rows = [figures(run(seed, out / f"seed-{seed}", arguments.overrides)) for seed in arguments.seeds]
    print(f"| figure | {' | '.join(f'seed {seed}' for seed in arguments.seeds)} | mean | sd |")
    print("| --- " * (len(rows) + 3) + "|")
    for name in rows[0]:
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells = [f"{value:.3f}" for value in (*values, statistics.fmean(values), spread)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
