"""How often `agentrl probe` is right.

    python -m benchmarks.probe [--seeds 20] [--draws 1000] [--json]

Three tables: the verdict on five tasks whose answer is known, through real tools and graders; the verdict along lines
from one to another, by simulation of the decision rule; and the forecast of the items that would vary, against the
truth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .truths import FORECASTS, TRUTHS, forecasts, verdicts
from .worlds import WORLDS, probed

MOST_FORECASTS = 200
"""Draws of a forecast, each of which fits hundreds of laws."""
VERDICTS = ("trainable", "weak", "not", "unmeasured")


def known_tasks(seeds: int) -> dict[str, dict[str, Any]]:
    """Task -> what was said over the seeds, and how often it was right, for the right reason."""
    found = {}
    for world in WORLDS:
        said: Counter[str] = Counter()
        right = 0
        for seed in range(seeds):
            report = probed(world, seed)
            said[report.verdict] += 1
            right += report.verdict == world.verdict and world.code in {reason.code for reason in report.reasons}
        found[world.name] = {"expected": f"{world.verdict}: {world.code}", "right": right, "of": seeds, "said": said}
        print(f"{world.name}: {right} of {seeds}", file=sys.stderr, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.probe", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="of each of the five tasks")
    parser.add_argument("--draws", type=int, default=1000, help="of each truth")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    tasks = known_tasks(options.seeds)
    lines = {}
    for truth in TRUTHS if options.draws else ():
        lines[truth.name] = verdicts(truth, options.draws)
        print(f"{truth.name}: {dict(lines[truth.name])}", file=sys.stderr, flush=True)
    n_forecasts = min(options.draws, MOST_FORECASTS)
    shares = {truth.name: forecasts(truth, n_forecasts) for truth in FORECASTS if n_forecasts}
    if options.json:
        of_shares = {name: {size: asdict(each) for size, each in found.items()} for name, found in shares.items()}
        print(json.dumps({"tasks": tasks, "verdicts": lines, "forecasts": of_shares}))
        return 0
    print("| task | expected | right |\n| --- | --- | --- |")
    for name, each in tasks.items():
        print(f"| {name} | {each['expected']} | {each['right']} of {each['of']} |")
    if options.draws:
        print(f"\n| truth | {' | '.join(VERDICTS)} |\n| --- | {' | '.join('---' for _ in VERDICTS)} |")
    for name, counts in lines.items():
        print(f"| {name} | {' | '.join(f'{counts[verdict] / options.draws:.1%}' for verdict in VERDICTS)} |")
    if options.draws:
        print("\n| truth | samples | items that vary | forecast | interval holds it |\n| --- | --- | --- | --- | --- |")
    for name, by_size in shares.items():
        for size, one in by_size.items():
            print(f"| {name} | {size} | {one.truth:.1%} | {one.mean:.1%} | {one.covered:.1%} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
