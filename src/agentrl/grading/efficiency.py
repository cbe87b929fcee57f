"""`type: efficiency`: how little was spent, from 1 at the free level to 0 at the limit."""

from __future__ import annotations

import time

from agentrl.config.graders import EfficiencyConfig
from agentrl.grading.calls import conduct_of
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.submission import Submission
from agentrl.types import Grade

RULES = 1
"""Raised where the same declaration comes to another score: it is part of the version."""
UNITS = {"tokens": "tokens", "calls": "calls", "seconds": "s", "cost_usd": "USD"}


class EfficiencyGrader:
    """Charges for what the episode used. Alone it teaches to do nothing: multiply a score of correctness by it."""

    def __init__(self, config: EfficiencyConfig) -> None:
        self._config = config
        self.version = content_version(config, rules=RULES)

    def __repr__(self) -> str:
        return f"EfficiencyGrader({', '.join(self._config.bands)})"

    async def aclose(self) -> None:
        """Nothing is held."""

    async def grade(self, submission: Submission) -> Grade:
        started, used, bands = time.perf_counter(), _used(submission), self._config.bands
        if "cost_usd" in bands and _has_no_price(submission):
            return ungraded("efficiency: the episode has no price; declare rollout.prices", "other_error")
        known = {name: band.credit(used[name]) for name, band in bands.items() if name in used}
        if not known:
            return ungraded(f"efficiency: {', '.join(bands)} are known of an episode, not of a sample", "other_error")
        weights = {name: self._config.weights.get(name, 1.0) for name in known}
        score = sum(weights[name] * credit for name, credit in known.items()) / sum(weights.values())
        notes = [
            f"{used[name]:.6g} {UNITS[name]} (free {bands[name].free:g}, limit {bands[name].limit:g}): {credit:.3g}"
            for name, credit in known.items()
        ]
        notes += [f"{name}: not known without the episode" for name in bands if name not in known]
        return Grade(
            min(1.0, max(0.0, score)),
            seconds=time.perf_counter() - started,
            sub_scores=known,
            explanation="; ".join(notes),
        )


def _has_no_price(submission: Submission) -> bool:
    """Whether an episode cost nothing that sampled tokens and called tools: with any price, one of them has one."""
    rollout = submission.rollout
    return rollout is not None and not rollout.cost_usd and rollout.output_tokens > 0 and bool(rollout.tool_calls)


def _used(submission: Submission) -> dict[str, float]:
    calls = float(len(conduct_of(submission).calls))
    if (rollout := submission.rollout) is None:
        return {"calls": calls}
    spent = {"tokens": float(rollout.output_tokens), "seconds": rollout.seconds, "cost_usd": rollout.cost_usd}
    return {"calls": calls, **spent}
