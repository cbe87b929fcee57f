"""Builds the index of many runs and times every kind of question about them.

    python -m benchmarks.ui [--runs 100] [--rollouts 10200] [--dir FOLDER] [--repeats 3] [--json]

`cold` is a whole process, from its start to the answer: imports and opening included, the files in the page cache.
`warm` is a question that an open index has not been asked before, `again` its next page. Medians of the repeats, in
seconds; `cpu` is what all threads together computed, which other work on the machine changes least. A folder that is
given is kept, and taken as it is if it holds runs; without one, about 2.3 KB a rollout are written below the temporary
directory and deleted. `--compare` measures two other designs of the text search on some of the rollouts: DuckDB's scan
of a Parquet column, and SQLite's FTS5 with trigrams.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agentrl.ui.index import EpisodeQuery, Order, RunsIndex

from .made_runs import COMMON, RARE, MadeRuns

RUN = "finqa-003"
LAST_PAGE = 10**9
"""An offset that stands for the last full page."""
QUESTIONS: dict[str, EpisodeQuery] = {
    "all, newest": EpisodeQuery(),
    "all, lowest reward": EpisodeQuery(order=Order.LOWEST_REWARD),
    "all, largest change": EpisodeQuery(order=Order.LARGEST_CHANGE),
    "all, slowest, last page": EpisodeQuery(order=Order.SLOWEST, offset=LAST_PAGE),
    "infra failures, newest": EpisodeQuery(outcome="infra_failed", failure_class="tool"),
    "tool, score, repeated tools": EpisodeQuery(tool="list", min_score=1.0, order=Order.REPEATED_TOOLS),
    "one item of all runs, longest": EpisodeQuery(task_id="validation-0042", order=Order.LONGEST),
    "one run, validation, most calls": EpisodeQuery(runs=(RUN,), split="validation", order=Order.MOST_CALLS),
    "rare word": EpisodeQuery(contains=RARE),
    "rare word, largest change": EpisodeQuery(contains=RARE, order=Order.LARGEST_CHANGE),
    "common word": EpisodeQuery(contains=COMMON),
    "common word, lowest reward": EpisodeQuery(contains=COMMON, order=Order.LOWEST_REWARD),
    "common word, largest change, last page": EpisodeQuery(
        contains=COMMON, order=Order.LARGEST_CHANGE, offset=LAST_PAGE
    ),
    "common word, one run": EpisodeQuery(contains=COMMON, runs=(RUN,), order=Order.LOWEST_REWARD),
    "phrase in all": EpisodeQuery(contains="annual report", order=Order.LOWEST_REWARD),
    "phrase across words and signs": EpisodeQuery(contains="net income | 4", order=Order.LARGEST_CHANGE),
    "part of words, with a blank": EpisodeQuery(contains="al rep", order=Order.LOWEST_REWARD, offset=LAST_PAGE),
    "part of a number": EpisodeQuery(contains="7.3", order=Order.LOWEST_REWARD),
    "one letter": EpisodeQuery(contains="e", order=Order.LARGEST_CHANGE),
    "blank and part of a word": EpisodeQuery(contains=" net", order=Order.LOWEST_REWARD),
    "no hit, no such word": EpisodeQuery(contains="qwertyuiop"),
    "no hit, common words": EpisodeQuery(contains="income net report", order=Order.LOWEST_REWARD),
    "no hit, signs": EpisodeQuery(contains="@@", order=Order.LARGEST_CHANGE),
    "text, tool, split, score": EpisodeQuery(contains="dividend", tool="cat", split="train", max_score=0.0),
}  # fmt: skip


def main() -> None:
    """Prints the table; with --json, the figures as one object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ui", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rollouts", type=int, default=10_200, help="of a run, about")
    parser.add_argument("--dir", type=Path, help="where the runs are, or are made; kept")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--compare", type=int, default=0, metavar="N", help="other designs of the search, on N rollouts"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        in_this_process(options.dir, options.ask)
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.dir or Path(folder), options)
    if options.json:
        print(json.dumps(figures))


def measure(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of the runs in `root`, which are made if there are none."""
    if not list(root.glob("*/rollouts")):
        made, _ = timed(lambda: MadeRuns().write(root, options.runs, options.rollouts))
        print(f"made {options.runs} runs in {made:.0f} s")
    load = os.getloadavg()[0]
    index = RunsIndex(root)
    started, before = time.perf_counter(), index.episodes(EpisodeQuery()).total
    index.refresh()
    seconds, rollouts = time.perf_counter() - started, index.episodes(EpisodeQuery()).total
    size = sum(path.stat().st_size for path in (root / ".agentrl-index").rglob("*") if path.is_file())
    figures: dict[str, Any] = {
        "runs": len(index.runs()), "rollouts": rollouts, "built_rollouts": rollouts - before,
        "build_rollouts_per_second": (rollouts - before) / seconds, "build_peak_rss_mb": peak_rss_mb(),
        "index_bytes_per_rollout": size / rollouts, "load": load, "cores": os.cpu_count(),
    }  # fmt: skip
    for name, value in figures.items():
        print(f"{name:28} {value:12,.1f}")
    figures |= {"refresh_unchanged": median(options.repeats, lambda: timed(index.refresh)[0])}
    figures |= {"run_list_warm": median(options.repeats, lambda: timed(index.runs)[0])}
    figures |= {"run_list_cold": median(options.repeats, lambda: cold(root, "runs")[0])}
    for name in ("refresh_unchanged", "run_list_warm", "run_list_cold"):
        print(f"{name:28} {figures[name]:12.3f}")
    row = index.episodes(EpisodeQuery(runs=(index.runs()[0].name,), split="validation")).rows[0]
    figures |= {"episode": median(options.repeats, lambda: timed(lambda: index.episode(row.run, row.rollout_id))[0])}
    figures |= {"siblings": median(options.repeats, lambda: timed(lambda: index.siblings(row.run, row.task_id))[0])}
    print(f"{'episode':28} {figures['episode']:12.3f}\n{'siblings':28} {figures['siblings']:12.3f}")
    print(f"\n{'question':42} {'cold':>7} {'cpu':>7} {'warm':>7} {'cpu':>7} {'again':>7} {'matches':>10}")
    figures["questions"] = {name: ask(root, name, options.repeats) for name in QUESTIONS}
    for key in ("cold", "cold_cpu", "warm", "warm_cpu"):
        figures[f"slowest_{key}"] = max(times[key] for times in figures["questions"].values())
        print(f"{'slowest_' + key:28} {figures['slowest_' + key]:12.3f}")
    asked = subprocess.run(command(root, "all"), check=True, capture_output=True, text=True)
    figures["memory_mb_after_all_questions"] = float(asked.stdout)
    print(f"{'memory_mb_after_all_questions':28} {figures['memory_mb_after_all_questions']:12.1f}")
    if options.compare:
        from .designs import compare_designs

        figures["designs"] = compare_designs(root, options.compare)
    return figures


def ask(root: Path, name: str, repeats: int) -> dict[str, float]:
    """The times of one question, and how many episodes match."""
    times: dict[str, list[float]] = {key: [] for key in ("cold", "cold_cpu", "warm", "warm_cpu", "again")}
    total = 0
    for _ in range(repeats):
        wall, cpu = cold(root, name)
        index = RunsIndex(root)
        index.episodes(EpisodeQuery(limit=1, task_id="nothing"))
        cpu_before = time.process_time()
        warm, total = timed(lambda index=index: answer(index, name))
        warm_cpu = time.process_time() - cpu_before
        again, _ = timed(lambda index=index: index.episodes(replace(QUESTIONS[name], offset=50)))
        for key, value in zip(times, (wall, cpu, warm, warm_cpu, again), strict=True):
            times[key].append(value)
    medians = {key: statistics.median(found) for key, found in times.items()}
    print(f"{name:42} " + " ".join(f"{value:7.3f}" for value in medians.values()) + f" {total:10,}", flush=True)
    return {**medians, "matches": total}


def answer(index: RunsIndex, name: str) -> int:
    """How many episodes match, the page having been fetched."""
    query = QUESTIONS[name]
    page = index.episodes(replace(query, offset=0))
    if query.offset == LAST_PAGE and page.total > 50:
        page = index.episodes(replace(query, offset=page.total - 50))
        assert len(page.rows) == 50, asdict(query)
    return page.total


def in_this_process(root: Path, name: str) -> None:
    """What `cold` starts: one question, or the list of runs, or all questions, after which the memory is printed."""
    index = RunsIndex(root)
    if name == "runs":
        index.runs()
    for each in QUESTIONS if name == "all" else [name] if name in QUESTIONS else []:
        answer(index, each)
    if name == "all":
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        print(int(status["RssAnon"].split()[0]) / 1024)  # without the mapped index, which the system may drop


def command(root: Path, name: str) -> list[str]:
    """Of a process that answers one question."""
    return [sys.executable, "-m", "benchmarks.ui", "--dir", str(root), "--ask", name]


def cold(root: Path, name: str) -> tuple[float, float]:
    """Seconds of a process that answers one question, and what it computed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, _ = timed(lambda: subprocess.run(command(root, name), check=True, stdout=subprocess.DEVNULL))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def median(repeats: int, measured: Callable[[], float]) -> float:
    """Of several."""
    return statistics.median(measured() for _ in range(repeats))


def peak_rss_mb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
