"""The story: `python -m examples.reward_hacking` trains twice, with the hole in the grader and without it.

The first run is stopped by a rule, which names the answers; the second one goes to its end. Both are kept, with their
reports, below --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentrl.config import load_config
from agentrl.evaluation.goodhart import goodhart_of, goodhart_svg
from agentrl.progress_bars import without_progress_bars
from agentrl.runs import read_json, read_metrics
from agentrl.training import TrainingResult, train
from examples.reward_hacking.baseline import build

CONFIG = Path(__file__).with_name("doors.yaml")
HOLE, CLOSED = "grading.operation=like", "grading.operation=eq"


def run(out: Path, name: str, operation: str) -> TrainingResult:
    """One training run from the baseline in `out`."""
    config = load_config(CONFIG, [f"workflow.baseline={out / 'baseline'}", operation])
    return train(config, run_dir=out / name)


def evaluations(result: TrainingResult) -> list[dict[str, Any]]:
    """The rows of metrics of the steps that were evaluated, the baseline's first."""
    start = result.summary["holdout"]["baseline"]
    baseline = {
        "step": 0,
        "reward_validation": start["score"] + start["gap"],
        "holdout_score_validation": start["score"],
        "holdout_score_validation_low": start["low"],
        "holdout_score_validation_high": start["high"],
        "sqrt_kl": 0.0,
    }
    return [baseline, *(row for row in read_metrics(result.run_dir) if "sqrt_kl" in row)]


def show(result: TrainingResult, say: Callable[[str], None]) -> None:
    """The table of a run, and how it ended."""
    say("    step   score   hold-out   sqrt(KL)")
    for row in evaluations(result):
        mark = "  <- best, by the hold-out" if row["step"] == result.summary["best_step"] else ""
        figures = f"{row['reward_validation']:8.2f}{row['holdout_score_validation']:11.2f}{row['sqrt_kl']:11.2f}"
        say(f"{row['step']:8}{figures}{mark}")
    if result.stopped_by is None:
        say(f"    took all {result.summary['steps']} steps")
        return
    stop = read_json(result.run_dir, "stop.json")
    say(f"    stopped by {stop['rule']} after step {stop['step']}: {stop['message']}")
    for sample in stop["samples"][:3]:
        scores = f"score {sample['score']:g}, hold-out {sample['holdout']:g}"
        say(f"      {sample['rollout_id']}  {scores}, answer {sample['answer']!r}")


def tell(out: Path, say: Callable[[str], None] = print) -> tuple[TrainingResult, TrainingResult]:
    """Both runs, told line by line; their results."""
    out.mkdir(parents=True, exist_ok=True)
    with without_progress_bars():
        build(out / "baseline")
    say("Behind one of four doors is a prize; a witness, right half of the time, points at one. Which door?")
    say("\nThe grader looks whether the right door's number is in the answer (string_check, like):")
    gamed = run(out, "with-the-hole", HOLE)
    show(gamed, say)
    (out / "goodhart.svg").write_text(
        goodhart_svg(goodhart_of(evaluations(gamed)), best_step=gamed.summary["best_step"])
    )
    say("\nThe same run, the hole closed: the answer has to be the right door's number (string_check, eq):")
    honest = run(out, "closed", CLOSED)
    show(honest, say)
    return gamed, honest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/reward_hacking"), help="a new or empty folder")
    out = parser.parse_args().out
    tell(out)
    print(f"\nreports: {out}/with-the-hole/report.html, {out}/closed/report.html; plot: {out}/goodhart.svg")


if __name__ == "__main__":
    main()
