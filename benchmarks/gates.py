"""How often gates that are looked at all the time promote and roll back, where the truth is known.

    python -m benchmarks.gates               all tables, about a minute on one core
    python -m benchmarks.gates --json        one line of JSON for each row

Canaries at 5 % of the traffic with looks every 50 candidate sessions from 100 to 4,000 end at the first boundary of
either side: promoted where the bound clears the margin, rolled back where harm is shown. Beside each rule stands the
same z test that many canary tools amount to, on the same simulated canaries. The arithmetic is that of
`agentrl.release.statistics`, on arrays: the functions that the gates call.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from agentrl.release.statistics.bounds import Bounds
from agentrl.release.statistics.exact_sequences import exact_sequence
from agentrl.release.statistics.group_sequential import look_boundaries
from agentrl.release.statistics.planning import (
    cost_variance,
    geo_mean_variance,
    plan_difference,
    plan_log_ratio,
    plan_pairs,
    quantile_variance,
    sequence_factor,
    zero_event_bound,
)
from agentrl.release.statistics.proportions import newcombe
from agentrl.release.statistics.sequences import MIN_CLUSTERS, normal_width, sequence_width
from agentrl.release.statistics.sums import effective_n, ratio_and_variance
from benchmarks.gate_worlds import SHARE, Canaries, costs, durations, rates, users

EVERY_50 = tuple(range(100, 4001, 50))
NEVER = 10**6


@dataclass(frozen=True)
class Rule:
    """How a bound is made at every look."""

    name: str
    alpha_promote: float = 0.05
    alpha_rollback: float = 0.01
    planned: int = 417
    """Candidate sessions at which a sequence is narrowest."""
    kind: str = "sequence"
    event: float = 1.0
    """Of rates: see `ratio_and_variance`."""
    min_clusters: int = 0
    """Of the candidate: none is decided before."""
    looks: int = 5
    """Of a group sequential rule."""
    is_soft: bool = False
    """Rolled back where the loss is shown to be beyond the margin; a hard gate: where any loss is shown."""

    def widths(self, alpha: float, n_candidate: Any, n_baseline: Any) -> Any:
        """[looks] standard errors from the estimate to the bound; infinite where no look is due."""
        if self.kind == "naive":
            return np.full(len(n_candidate), normal_width(alpha))
        planned = float(effective_n(self.planned, self.planned * (1 - SHARE) / SHARE))
        if self.kind == "sequence":
            return sequence_width(effective_n(n_candidate, n_baseline), alpha=alpha, planned_n=planned)
        walls = np.full(len(n_candidate), np.inf)
        boundaries = look_boundaries([k / self.looks for k in range(1, self.looks + 1)], alpha)
        for k, boundary in enumerate(boundaries, 1):  # the first simulated look at which this one is due
            due = np.flatnonzero(n_candidate >= k * self.planned / self.looks)
            if len(due):
                walls[due[0]] = boundary
        return walls


NAIVE = Rule("naive z at every look", 0.05, 0.05, kind="naive", event=0.0)
BOTH_FIVE = Rule("confidence sequence, 5 % and 5 %", 0.05, 0.05)
DEFAULT = Rule("confidence sequence, 5 % and 1 % (default)")
SOFT = Rule("the same, a soft gate", is_soft=True)


@dataclass(frozen=True)
class Row:
    """What came of the canaries of one truth under one rule, in percent of them."""

    table: str
    truth: str
    rule: str
    promoted: float
    rolled_back: float
    undecided: float
    median_n: float | None
    """Candidate sessions at the decision."""
    p90_n: float | None
    runs: int


def played(canaries: Canaries, rule: Rule, **how: Any) -> tuple[Any, Any]:
    """[runs] look at which each canary was promoted and rolled back, `NEVER` where it was not; see `looked`."""
    is_safe, is_harm = looked(canaries, rule, **how)
    return first(is_safe), first(is_harm)


def looked(
    canaries: Canaries, rule: Rule, *, margin: float, higher_is_better: bool = True, is_ratio: bool = False
) -> tuple[Any, Any]:
    """[runs, looks] whether the gate passes, and whether it fails, at every look.

    Args:
        margin: on the estimate's own scale: of a ratio that of the logarithm.
    """
    event = 0.0 if is_ratio or not canaries.are_rates else rule.event
    (own, own_variance), (other, other_variance) = (
        ratio_and_variance(arm, event=event) for arm in (canaries.candidate, canaries.baseline)
    )
    if is_ratio:
        own_variance, other_variance = own_variance / own**2, other_variance / other**2
        own, other = np.log(own), np.log(other)
    gain = (own - other) * (1 if higher_is_better else -1)
    error = np.sqrt(own_variance + other_variance)
    counts = canaries.n_candidate, canaries.n_baseline
    error = np.where(np.asarray(canaries.candidate.clusters) >= rule.min_clusters, error, np.inf)
    with np.errstate(invalid="ignore"):
        is_safe = gain - rule.widths(rule.alpha_promote, *counts) * error > -margin
        is_harm = gain + rule.widths(rule.alpha_rollback, *counts) * error < (-margin if rule.is_soft else 0)
    return is_safe, is_harm


def first(is_true: Any) -> Any:
    """[runs] index of the first look at which it is; `NEVER` where it never is."""
    return np.where(is_true.any(1), is_true.argmax(1), NEVER)


def row(table: str, truth: str, rule: Rule, canaries: Canaries, **how: Any) -> Row:
    """Play and count. A rollback at the same look goes first."""
    return counted(table, truth, rule.name, canaries.n_candidate, *played(canaries, rule, **how))


def counted(table: str, truth: str, rule: str, looks: Any, promoted: Any, rolled_back: Any) -> Row:
    """Of the looks at which they were decided."""
    end = np.minimum(promoted, rolled_back)
    sizes = looks[end[end < NEVER]]
    return Row(
        table,
        truth,
        rule,
        promoted=100 * float(np.mean(promoted < rolled_back)),
        rolled_back=100 * float(np.mean((rolled_back <= promoted) & (rolled_back < NEVER))),
        undecided=100 * float(np.mean(end == NEVER)),
        median_n=float(np.median(sizes)) if len(sizes) else None,
        p90_n=float(np.quantile(sizes, 0.9)) if len(sizes) else None,
        runs=len(end),
    )


def success_rows(runs: int) -> Iterator[Row]:
    """Success of 80 %, margin 5 points: the table that gates are held to."""
    truths: list[tuple[str, float, Sequence[int]]] = [
        ("equal", 0.80, EVERY_50),
        ("exactly -5 pt", 0.75, EVERY_50),
        ("-10 pt", 0.70, EVERY_50),
        ("-20 pt, every 10 from 50", 0.60, range(50, 4001, 10)),
        ("-40 pt, every 10 from 30", 0.40, range(30, 4001, 10)),
    ]
    for number, (truth, rate, looks) in enumerate(truths):
        canaries = rates(runs, looks, rate, 0.80, seed=number)
        for rule in (NAIVE, BOTH_FIVE, DEFAULT, SOFT, Rule("group sequential, 5 looks", kind="group", planned=430)):
            yield row("success", truth, rule, canaries, margin=0.05)


def tuning_rows(runs: int) -> Iterator[Row]:
    """Other planned sizes, splits of alpha, smallest samples and variances."""
    rules = [Rule(f"planned for {planned}", planned=planned) for planned in (150, 417, 1000, 4000)]
    rules += [Rule("rollback at 5 % / 4 gates", alpha_rollback=0.0125), Rule("rollback at 1 % / 4 gates", 0.05, 0.0025)]
    rules += [Rule("plain variance", event=0.0), Rule("plain variance, 5 % and 5 %", 0.05, 0.05, event=0.0)]
    for number, (truth, rate) in enumerate([("equal", 0.80), ("exactly -5 pt", 0.75)]):
        canaries = rates(runs, EVERY_50, rate, 0.80, seed=20 + number)
        early = rates(runs, range(10, 4001, 10), rate, 0.80, seed=30 + number)
        for rule in rules:
            yield row("tuning", truth, rule, canaries, margin=0.05)
        for rule in (BOTH_FIVE, Rule("plain variance, 5 % and 5 %", 0.05, 0.05, event=0.0)):
            yield row("tuning, every 10 from 10", truth, rule, early, margin=0.05)
    for number, rate in enumerate((0.5, 0.95, 0.99)):
        canaries = rates(runs, EVERY_50, rate, rate, seed=40 + number)
        yield row("tuning", f"equal, at {100 * rate:g} %", DEFAULT, canaries, margin=0.05)
        canaries = rates(runs, EVERY_50, rate - 0.05, rate, seed=50 + number)
        yield row("tuning", f"exactly -5 pt, of {100 * rate:g} %", DEFAULT, canaries, margin=0.05)


def cluster_rows(runs: int) -> Iterator[Row]:
    """Users of several sessions each, assigned as users: counted by session, and by user."""
    for number, (sessions, icc) in enumerate([(5, 0.1), (10, 0.3)]):
        for truth, rate in (("equal", 0.80), ("exactly -5 pt", 0.75)):
            by_user, by_session = users(runs, EVERY_50, rate, 0.80, sessions=sessions, icc=icc, seed=60 + number)
            named = f"{truth}, {sessions} sessions a user, ICC {icc:g}"
            rule = Rule("by session", 0.05, 0.05)
            yield row("clusters", named, rule, by_session, margin=0.05)
            for least in (0, MIN_CLUSTERS, 100):
                rule = Rule(f"by user, from {least} users on", 0.05, 0.05, min_clusters=least)
                yield row("clusters", named, rule, by_user, margin=0.05)


def latency_rows(runs: int) -> Iterator[Row]:
    """Geometric mean of durations of log-sd 0.8, margin 15 %."""
    margin, how = float(np.log(1.15)), {"higher_is_better": False}
    for number, ratio in enumerate((1.0, 1.05, 1.10, 1.15, 1.25)):
        canaries = durations(runs, EVERY_50, ratio, log_sd=0.8, seed=70 + number)
        for rule in (NAIVE, Rule("confidence sequence (default)", planned=214)):
            yield row("latency", f"{ratio:g} times", rule, canaries, margin=margin, **how)


def cost_rows(runs: int) -> Iterator[Row]:
    """Cost per success, log-normal costs of log-sd 0.7, 80 % success, margin 10 %."""
    margin, how = float(np.log(1.10)), {"higher_is_better": False, "is_ratio": True}
    for number, (truth, ratio, success) in enumerate(
        [("equal", 1.0, 0.8), ("cost of a session +10 %", 1.1, 0.8), ("success 80 -> 72.7 %", 1.0, 0.8 / 1.1)]
    ):
        canaries = costs(runs, EVERY_50, ratio, success, 0.8, log_sd=0.7, seed=80 + number)
        for rule in (NAIVE, Rule("confidence sequence (default)", planned=633)):
            yield row("cost per success", truth, rule, canaries, margin=margin, **how)


def safety_rows(runs: int) -> Iterator[Row]:
    """Rare violations, margin 1 point: Newcombe's interval and the sequence, at the same looks."""
    for number, (own, other) in enumerate([(0.0, 0.0), (0.001, 0.001), (0.01, 0.01), (0.011, 0.001), (0.03, 0.001)]):
        canaries = rates(runs, EVERY_50, own, other, seed=90 + number)
        truth = f"{100 * own:g} % against {100 * other:g} %"
        for rule in (Rule("naive z at every look", 0.05, 0.01, kind="naive", event=0.0), DEFAULT):
            yield row("violations", truth, rule, canaries, margin=0.01, higher_is_better=False)
        looks = canaries.n_candidate
        for name, test in (("Newcombe", newcombe), ("exact sequence", partial(exact_sequence, share=SHARE))):
            yield counted("violations", truth, f"{name} at every look, 5 % and 1 %", looks, *counts(canaries, test))


def counts(canaries: Canaries, test: Callable[..., Bounds]) -> tuple[Any, Any]:
    """Looks at which an interval of counts clears the margin of 1 point, and at which it shows harm."""

    @cache
    def of(own: int, n: int, other: int, m: int) -> tuple[bool, bool]:
        bounds = test(own, n, other, m, alpha_lower=0.01, alpha_upper=0.05)
        return bounds.is_below(0.01), bounds.is_above(0.0)

    own, other = canaries.candidate.x.astype(int).tolist(), canaries.baseline.x.astype(int).tolist()
    sizes = list(zip(canaries.n_candidate.tolist(), canaries.n_baseline.tolist(), strict=True))
    ends = np.full((2, len(own)), NEVER)
    for run, events in enumerate(zip(own, other, strict=True)):
        for look, (a, b, (n, m)) in enumerate(zip(*events, sizes, strict=True)):
            is_safe, is_harm = of(a, n, b, m)
            if is_safe or is_harm:  # a canary ends at its first boundary
                ends[:, run] = look if is_safe else NEVER, look if is_harm else NEVER
                break
    return ends[0], ends[1]


def planned_sizes() -> Iterator[dict[str, Any]]:
    """Sessions of the canary at 5 % for one look with 80 % power, as gates are planned."""
    for margin in (0.05, 0.02, 0.01):
        yield {
            "plan": f"success of 80 %, {100 * margin:g} pt",
            "n": plan_difference(0.16, margin, share=SHARE).candidate,
        }
    for true in (1.0, 1.05, 1.10):
        plan = plan_log_ratio(geo_mean_variance(0.8), 0.15, share=SHARE, true_ratio=true)
        yield {"plan": f"geometric mean of durations, log-sd 0.8, 15 %, truly {true:g}", "n": plan.candidate}
    for true in (1.0, 1.05):
        plan = plan_log_ratio(quantile_variance(0.8, 0.95), 0.15, share=SHARE, true_ratio=true)
        yield {"plan": f"95th percentile of them, 15 %, truly {true:g}", "n": plan.candidate}
    cv = float(np.sqrt(np.expm1(0.7**2)))
    for margin in (0.10, 0.05):
        plan = plan_log_ratio(cost_variance(cv, 0.8), margin, share=SHARE)
        yield {"plan": f"cost per success, log-sd 0.7, success 80 %, {100 * margin:g} %", "n": plan.candidate}
    for discordant in (0.06, 0.16):
        yield {"plan": f"pairs, {100 * discordant:g} % discordant, 5 pt", "n": plan_pairs(discordant, 0.05)}
    for n in (300, 1000, 2995):
        yield {"plan": f"no event in {n}: the rate is below", "percent": round(100 * zero_event_bound(n), 3)}
    for alpha in (0.05, 0.01):
        yield {
            "plan": f"a sequence at {100 * alpha:g} % takes, times a fixed look",
            "n": round(sequence_factor(alpha), 2),
        }


TABLES: dict[str, Callable[[int], Iterator[Row]]] = {
    "success": success_rows,
    "tuning": tuning_rows,
    "clusters": cluster_rows,
    "latency": latency_rows,
    "cost": cost_rows,
    "violations": safety_rows,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000, help="simulated canaries a row; costs take a quarter of them")
    parser.add_argument("--table", action="append", choices=[*TABLES, "plans"], help="only this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="one line of JSON a row")
    wanted = parser.parse_args(arguments)
    chosen = wanted.table or [*TABLES, "plans"]
    for name in chosen:
        started = time.monotonic()
        if name == "plans":
            for plan in planned_sizes():
                print(
                    json.dumps(plan) if wanted.json else f"{plan['plan']:60s} {plan.get('n', plan.get('percent')):>9}"
                )
            continue
        runs = wanted.runs if name != "cost" else max(1, wanted.runs // 4)
        if not wanted.json:
            print(f"\n{name}, {runs} canaries a row")
            print(f"{'truth':36s} {'rule':44s} {'promoted':>9s} {'rolled back':>12s} {'median n':>9s} {'p90':>6s}")
        for found in TABLES[name](runs):
            if wanted.json:
                print(json.dumps(asdict(found)))
                continue
            sizes = "".join("     -   " if n is None else f"{n:9.0f}" for n in (found.median_n, found.p90_n))
            print(f"{found.truth:36s} {found.rule:44s} {found.promoted:8.2f}% {found.rolled_back:11.2f}% {sizes}")
        if not wanted.json:
            print(f"({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
