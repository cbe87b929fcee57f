"""Evidence for tests of gates: seeded sessions of two arms, and rows by name."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.release import GateConfig, ReleaseConfig
from agentrl.release.gates import Look
from agentrl.release.records import Arm, SessionEvidence

START = 1_000.0
LATE = START + 40 * 86400


def row(name: str = "task_success_not_worse", **keys: Any) -> GateConfig:
    """A built-in row with some keys changed; or a row of one's own."""
    return ReleaseConfig(gates=({"name": name, **keys},)).gates[0]


def rows(*names: str) -> tuple[GateConfig, ...]:
    return ReleaseConfig(gates=names or tuple(BUILT_IN_GATES)).gates


def look(stage: str = "canary", *, share: float | None = None, at: float = LATE, **fields: Any) -> Look:
    """Long after the sessions, so that all labels are old enough."""
    return Look("rel-1", stage, datetime.fromtimestamp(at, UTC), 1, share, fields.pop("started_at", START), **fields)


def session(number: int, arm: Arm, **facts: Any) -> SessionEvidence:
    """Complete and unremarkable, but for what is said."""
    usual: dict[str, Any] = {
        "at": START + number,
        "success": True,
        "quality": 0.9,
        "safety_violations": 0,
        "seconds": 10.0,
        "cost_usd": 0.01,
        "human_override": False,
        "tool_calls": 4,
        "tool_errors": 0,
        "tool_infra_errors": 0,
    }
    return SessionEvidence(f"s{number}-{arm}", arm, **{**usual, **facts})


def arm(
    which: Arm, n: int, *, seed: int = 0, rates: Mapping[str, float] | None = None, slow: float = 1.0, **facts: Any
) -> list[SessionEvidence]:
    """n sessions of an arm, drawn: success 0.8, an override in 20, a tool error in 100 calls, log-normal seconds.

    Args:
        rates: in place of those, of `success`, `human_override`, `safety_violations`.
        slow: factor on seconds.
        facts: the same of every session.
    """
    chances = {"success": 0.8, "human_override": 0.05, "safety_violations": 0.0, **(rates or {})}
    rng = random.Random(f"{seed}-{which}")
    found = []
    for number in range(n):
        drawn: dict[str, Any] = {
            "success": rng.random() < chances["success"],
            "human_override": rng.random() < chances["human_override"],
            "safety_violations": int(rng.random() < chances["safety_violations"]),
            "quality": min(max(rng.gauss(0.7, 0.2), 0.0), 1.0),
            "seconds": slow * rng.lognormvariate(2.0, 0.5),
            "cost_usd": rng.lognormvariate(-5.0, 0.4),
            "tool_errors": int(rng.random() < 0.04),
            "policy_kl": abs(rng.gauss(0.05, 0.02)),
            "policy_kl_tokens": rng.randrange(20, 200),
            "intent": rng.choice(("refund", "status")),
        }
        found.append(session(number, which, **{**drawn, **facts}))
    return found


def both(n: int, *, seed: int = 0, n_baseline: int | None = None, **facts: Any) -> list[SessionEvidence]:
    """Two arms that are truly equal."""
    return [
        *arm(Arm.CANDIDATE, n, seed=seed, **facts),
        *arm(Arm.BASELINE, n if n_baseline is None else n_baseline, seed=seed + 1, **facts),
    ]


def in_pairs(evidence: list[SessionEvidence]) -> list[SessionEvidence]:
    """The same, as partners by their number."""
    from dataclasses import replace

    return [replace(each, pair=each.session_id.partition("-")[0]) for each in evidence]
