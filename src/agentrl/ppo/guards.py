"""Judging a run by the metrics of its steps: what to warn of, what to stop for, and which step was still good.

Nothing but the metrics so far is read, so a resumed run judges exactly as an uninterrupted one. `rules.py` has the
rules, `signals.py` how they look at the metrics; docs/guards.md lists signals, thresholds and sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.ppo.rules import Rule
from agentrl.ppo.signals import WINDOW, Limit, Point, Row


@dataclass(frozen=True)
class Finding:
    """A rule that the newest step breaks."""

    rule: Rule
    limit: Limit
    """The one that is broken."""
    is_stop: bool
    points: tuple[Point, ...]
    """The last values of the signal, as the rule looks at it, oldest first."""
    good_step: int
    """The last step after which the policy had not gone bad yet, as far as the signal shows; 0 is the baseline."""

    def __str__(self) -> str:
        shown = ", ".join(f"{point.value:.4g}" for point in self.points[-10:])
        return f"{self.rule.signal} is {self.limit}; last values: {shown}"

    def to_record(self) -> dict[str, Any]:
        """For stop.json and warnings.jsonl."""
        return {
            "rule": self.rule.name,
            "signal": self.rule.signal,
            "message": str(self),
            "limit": str(self.limit),
            "repair": self.rule.repair,
        }


def judge(history: Sequence[Row], rules: Sequence[Rule]) -> list[Finding]:
    """What the newest step breaks, each rule once, in the order of the rules.

    Args:
        history: the metrics of every step so far, oldest first.
    """
    found = (_finding(rule, rule.view(history)) for rule in rules)
    return [finding for finding in found if finding is not None]


def new_warnings(history: Sequence[Row], rules: Sequence[Rule]) -> list[Finding]:
    """Warnings that the step before did not give: a rule warns once, and again after it has recovered."""
    known = {finding.rule.name for finding in judge(history[:-1], rules)}
    return [finding for finding in judge(history, rules) if not finding.is_stop and finding.rule.name not in known]


def suspect_step(history: Sequence[Row], rules: Sequence[Rule]) -> int | None:
    """The last good step of the rules that may be about to stop the run; None where all is well.

    A checkpoint from then must be kept: a slow rule stops a run steps after its signal went bad.
    """
    steps = []
    for rule in rules:
        points = rule.view(history)
        if rule.stop is not None and any(map(rule.stop.is_outside, points[-(rule.stop.within or 1) :])):
            steps.append(_good_step(rule, rule.stop, points))
    return min(steps, default=None)


def _finding(rule: Rule, points: list[Point]) -> Finding | None:
    for limit, is_stop in ((rule.stop, True), (rule.warn, False)):
        if limit is not None and limit.is_broken(points):
            return Finding(rule, limit, is_stop, tuple(points[-WINDOW:]), _good_step(rule, limit, points))
    return None


def _good_step(rule: Rule, limit: Limit, points: Sequence[Point]) -> int:
    """The step before the first of the points that lie outside without a break, or within the limit's window.

    Where the signal describes the policy that went into a step, it was the step before that made it so.
    """
    last = len(points)
    for index in range(len(points) - 1, -1, -1):
        if limit.is_outside(points[index]):
            last = index
        elif index < len(points) - (limit.within or 1):
            break
    before = points[last - 1].step if last else 0
    return max(0, before if rule.is_update else before - 1)
