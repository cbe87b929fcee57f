"""Python graders a second, at every level of the sandbox that works here: `python -m benchmarks.grading [--json]`.

A trivial grader on warm workers, in turns between the levels; medians over the rounds. `alone` is one worker asked for
one grade after the other, `together` all workers with as many grades waiting as there are to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time

from agentrl.config.graders import PythonConfig
from agentrl.grading import Submission
from agentrl.grading.python_grader import PythonGrader
from agentrl.grading.sandbox import Level
from agentrl.grading.sandbox.levels import why_not

TRIVIAL = 'def grade(sample, item):\n    return float(sample["output_text"] == item["answer"])\n'
SUBMISSION = Submission.of_text("42", {"answer": "42"})


async def start(level: Level, workers: int) -> PythonGrader:
    """A grader whose workers are warm."""
    grader = PythonGrader(PythonConfig(type="python", source=TRIVIAL, sandbox=level.value, workers=workers))
    await asyncio.gather(*(grader.grade(SUBMISSION) for _ in range(20 * workers)))
    return grader


async def alone(grader: PythonGrader, n_grades: int) -> float:
    """Grades a second, one after the other."""
    started = time.perf_counter()
    for _ in range(n_grades):
        assert (await grader.grade(SUBMISSION)).score == 1.0
    return n_grades / (time.perf_counter() - started)


async def together(grader: PythonGrader, n_grades: int) -> float:
    """Grades a second, all at once."""
    started = time.perf_counter()
    grades = await asyncio.gather(*(grader.grade(SUBMISSION) for _ in range(n_grades)))
    assert all(grade.score == 1.0 for grade in grades)
    return n_grades / (time.perf_counter() - started)


async def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, list[float]]] = {}
    levels = [level for level in Level if not why_not(level)]
    graders = {level: await start(level, options.workers) for level in levels}
    try:
        for repeat in range(options.repeats):
            for level in levels[:: -1 if repeat % 2 else 1]:
                of_level = figures.setdefault(level.value, {"alone": [], "together": []})
                of_level["alone"].append(await alone(graders[level], options.grades))
                of_level["together"].append(await together(graders[level], options.grades))
    finally:
        for grader in graders.values():
            await grader.aclose()
    return {
        level: {name: statistics.median(values) for name, values in rows.items()} for level, rows in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--grades", type=int, default=400, help="of each kind in a round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    options = parser.parse_args()
    figures = asyncio.run(measure(options))
    for level in Level:
        if level.value in figures:
            shown = ", ".join(f"{name} {value:.0f}/s" for name, value in figures[level.value].items())
            print(f"{level.value:12} {shown}")
        else:
            print(f"{level.value:12} does not work here: {why_not(level)}", file=sys.stderr)
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
        print(json.dumps({"grades_per_second": figures, "workers": options.workers, "machine": machine}))


if __name__ == "__main__":
    main()
