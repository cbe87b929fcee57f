"""How often monitors give alarm where nothing is wrong, and how soon where something is.

    python -m benchmarks.monitors

Seven metrics as they look in practice: rare overrides, tool errors that come in clusters, skewed KL, log-normal
durations. Each rule is set to one false alarm in 10,000 sessions. Harm is the shift that the monitor is tuned to.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from agentrl.config.monitoring import SHIFTS
from agentrl.monitoring.drift import Crossing, cusum, cusum_threshold, ewma_crossings, ewma_limit, skewed
from agentrl.monitoring.watched_metrics import Expected, Series, expected

BETWEEN = 10_000.0
REFERENCE, BEFORE, AFTER = 1000, 300, 4000
Draw = Callable[[np.random.Generator, int, bool], Series]


def series(x: np.ndarray, y: np.ndarray | None = None) -> Series:
    """A session a minute."""
    return Series(60.0 * np.arange(len(x)), x.astype(float), np.ones(len(x)) if y is None else y.astype(float))


def overrides(rng: np.random.Generator, n: int, is_bad: bool) -> Series:
    return series(rng.random(n) < 0.05 + is_bad * SHIFTS["human_override_rate"])


def tool_errors(rng: np.random.Generator, n: int, is_bad: bool) -> Series:
    calls, rate = rng.integers(1, 8, n), 0.03 + is_bad * SHIFTS["tool_error_rate"]
    return series(rng.binomial(calls, rng.beta(6 * rate, 6 * (1 - rate), n)), calls)


def policy_kl(rng: np.random.Generator, n: int, is_bad: bool) -> Series:
    return series(rng.gamma(2, 0.025, n) + is_bad * SHIFTS["policy_kl_drift"])


def quality(rng: np.random.Generator, n: int, is_bad: bool) -> Series:
    return series(rng.beta(7, 3, n) - is_bad * SHIFTS["completion_quality"])


def latency(rng: np.random.Generator, n: int, is_bad: bool) -> Series:
    return series(rng.normal(2 + is_bad * np.log1p(SHIFTS["latency"]), 0.8, n))


def cost(rng: np.random.Generator, n: int, is_bad: bool) -> Series:
    return series(rng.normal(-4 + is_bad * np.log1p(SHIFTS["cost"]), 0.7, n))


def reliability(rng: np.random.Generator, n: int, is_bad: bool) -> Series:
    success, override = rng.random(n) < 0.85 - is_bad * SHIFTS["reliability_score"], rng.random(n) < 0.05
    return series(0.85 * 0.95 * (1 + (success - 0.85) / 0.85 - (override - 0.05) / 0.95))


WORLDS: dict[str, Draw] = {
    "human_override_rate": overrides,
    "tool_error_rate": tool_errors,
    "policy_kl_drift": policy_kl,
    "completion_quality": quality,
    "latency": latency,
    "cost": cost,
    "reliability_score": reliability,
}


def alarms(model: Expected, found: Series) -> dict[str, list[Crossing]]:
    """Of both rules."""
    limit = skewed(ewma_limit(BETWEEN), model.skewness)
    return {
        "cusum": list(cusum(model.ratios(found), cusum_threshold(BETWEEN, model.information))),
        "ewma": list(ewma_crossings(model.standardised(found), limit)),
    }


def quiet_sessions(
    metric: str, draw: Draw, rng: np.random.Generator, reference: int, sessions: int
) -> dict[str, float]:
    """Sessions between false alarms, over ten references."""
    counts = {"cusum": 0, "ewma": 0}
    for _ in range(10):
        model = expected(metric, draw(rng, reference, False))
        for rule, found in alarms(model, draw(rng, sessions // 10, False)).items():
            counts[rule] += len(found)
    return {rule: sessions / count if count else np.inf for rule, count in counts.items()}


def delays(metric: str, draw: Draw, rng: np.random.Generator, runs: int) -> dict[str, list[int]]:
    """Sessions from the harm's beginning to the alarm."""
    found: dict[str, list[int]] = {"cusum": [], "ewma": []}
    for _ in range(runs):
        model = expected(metric, draw(rng, REFERENCE, False))
        parts = draw(rng, BEFORE, False), draw(rng, AFTER, True)
        both = series(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y")))
        for rule, crossings in alarms(model, both).items():
            late = (each.index - BEFORE for each in crossings if each.index >= BEFORE)
            found[rule].append(next(late, AFTER))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=400_000, help="without harm, for each metric")
    parser.add_argument("--runs", type=int, default=200, help="with harm, for each metric")
    wanted = parser.parse_args(arguments)
    print(f"{'':24s}sessions between false alarms             sessions until harm is found")
    print(f"{'':24s}reference known      of {REFERENCE} sessions       median (90th percentile)")
    print(f"{'':24s}{'CUSUM':>9s}{'EWMA':>9s}{'CUSUM':>13s}{'EWMA':>9s}{'CUSUM':>16s}{'EWMA':>16s}")
    for number, (metric, draw) in enumerate(WORLDS.items()):
        rng = np.random.default_rng(number)
        known = quiet_sessions(metric, draw, rng, 100_000, wanted.sessions)
        learnt = quiet_sessions(metric, draw, rng, REFERENCE, wanted.sessions)
        late = delays(metric, draw, rng, wanted.runs)
        line = "".join(f"{known[rule]:9.0f}" for rule in known) + "    "
        line += "".join(f"{learnt[rule]:9.0f}" for rule in learnt)
        for each in late.values():
            line += f"{np.median(each):9.0f} ({np.quantile(each, 0.9):4.0f})"
        print(f"{metric:24s}{line}")


if __name__ == "__main__":
    main()
