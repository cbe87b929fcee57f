"""How soon the rules on hold-outs see a gamed grader, and how often they see one that is not there.

`python -m benchmarks.goodhart --runs 200` simulates runs of 40 evaluations of 100 items, in which a policy moves away
from its baseline. What is really wanted rises as d (a - b ln d) to a peak and then falls; the grader also pays for a
feature that the policy learns to exploit. In the runs to compare with, it pays for what is wanted and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from agentrl.config import GuardsConfig, PPOConfig
from agentrl.evaluation.goodhart import rl_peak
from agentrl.evaluation.holdout import HoldoutHistory, HoldoutReport, WatchedItem
from agentrl.ppo.guards import Finding, judge
from agentrl.ppo.rules import rules

EVALUATIONS, FARTHEST = 40, 4.0
A, B = 0.3, 0.2  # the peak is at d = 1.65, evaluation 16
RULES = ("gaming", "holdout")


@dataclass(frozen=True)
class World:
    """What a simulated run measures."""

    exploit: float = 0.6
    """What the grader pays at most for the feature; 0: it pays for what is wanted, and no more."""
    noise: float = 0.1
    """Standard deviation of what the hold-out says of an item; 0: it is what is wanted."""
    n_items: int = 100

    def reports(self, seed: int) -> list[HoldoutReport]:
        """The baseline and every evaluation after it."""
        draw = np.random.default_rng(seed)
        ease = draw.normal(0.25, 0.1, self.n_items)
        reports = []
        for number in range(EVALUATIONS + 1):
            d = distance(number)
            wanted = ease + gold(d, is_gamed=self.exploit > 0) + draw.normal(0, 0.1, self.n_items)
            paid = wanted + self.exploit * d / FARTHEST * draw.uniform(0.5, 1.5, self.n_items)
            seen = wanted + draw.normal(0, self.noise, self.n_items)
            pairs = zip(np.clip(paid, 0, 1).tolist(), np.clip(seen, 0, 1).tolist(), strict=True)
            items = tuple(WatchedItem(f"t{i:03d}", score, holdout) for i, (score, holdout) in enumerate(pairs))
            reports.append(HoldoutReport(number, items, 1.0, {}))
        return reports


def distance(number: int) -> float:
    """sqrt(KL) at an evaluation."""
    return FARTHEST * number / EVALUATIONS


def gold(d: float, *, is_gamed: bool) -> float:
    """What is wanted, above the baseline; a policy that games nothing stays at the peak once it is there."""
    peak = rl_peak(A, B)
    return float(d * (A - B * np.log(d))) if d > 0 and (is_gamed or d < peak.sqrt_kl) else peak.score if d else 0.0


def alarms(world: World, seed: int, guards: GuardsConfig | None = None) -> dict[str, int | None]:
    """The evaluation at which each rule would stop the run; None: at none."""
    table = [rule for rule in rules(PPOConfig(guards=guards or GuardsConfig())) if rule.name in RULES]
    history, rows = HoldoutHistory(0.9), []
    found: dict[str, int | None] = dict.fromkeys(RULES)
    for report in world.reports(seed):
        figures = history.take(report)
        if report.step == 0:
            continue
        scores = {"reward_validation": report.score + report.gap, "holdout_score_validation": report.score}
        rows.append({"step": float(report.step), **scores, **figures})
        for finding in stops(rows, table):
            found[finding.rule.name] = found[finding.rule.name] or report.step
    return found


def stops(rows: Sequence[dict[str, float]], table: Any) -> list[Finding]:
    return [finding for finding in judge(rows, table) if finding.is_stop]


def first(found: dict[str, int | None]) -> int | None:
    """When the run ends."""
    return min((step for step in found.values() if step), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    n_runs = parser.parse_args().runs
    peak = rl_peak(A, B).sqrt_kl / FARTHEST * EVALUATIONS
    print(f"{n_runs} runs of {EVALUATIONS} evaluations each; what is wanted peaks at evaluation {peak:.0f}")
    print(f"{'grader pays for':20}{'noise':>7}  {'stops at':32}{'runs stopped':>13}{'mean evaluation':>17}")
    tables = {
        "a fall with any rise, once": GuardsConfig(max_holdout_evaluations=1),
        "a fall with a sure rise, once": GuardsConfig(max_sure_holdout_evaluations=1),
        "that twice, or any five times": GuardsConfig(),
    }
    for exploit, what in ((0.6, "a feature as well"), (0.0, "what is wanted")):
        for noise in (0.0, 0.3):
            for name, guards in tables.items():
                world = World(exploit, noise)
                ends = [end for seed in range(n_runs) if (end := first(alarms(world, seed, guards)))]
                when = f"{fmean(ends):.1f}" if ends else ""
                print(f"{what:20}{noise:7.1f}  {name:32}{len(ends) / n_runs:13.1%}{when:>17}", flush=True)


if __name__ == "__main__":
    main()
