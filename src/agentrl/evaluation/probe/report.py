"""ProbeReport: the verdict of a probe, why, and every figure behind it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.probe.best_of import BestOf, Estimate
from agentrl.evaluation.probe.groups import Advice, Groups
from agentrl.evaluation.probe.leaks import ToolLeaks
from agentrl.evaluation.probe.planned import Plan
from agentrl.evaluation.probe.power import SmallestEffect
from agentrl.evaluation.probe.repeatability import Repeatability
from agentrl.evaluation.probe.samples import ItemScores
from agentrl.evaluation.probe.twins import Twins
from agentrl.evaluation.probe.verdict import Reason, Verdict

FORMAT = "agentrl-probe/1"


@dataclass(frozen=True)
class SplitFigures:
    """The scores of one split, from 0 to 1 of the grader's range."""

    split: str
    n_items: int
    """With a vote."""
    n_items_lost: int
    mean: Estimate | None
    best_of: BestOf | None
    groups: Groups
    passes: dict[str, dict[int, Estimate]] = field(repr=False)
    """`pass_at_k` and `pass_hat_k`, by k."""


@dataclass(frozen=True)
class Conduct:
    """What the episodes went through."""

    rollouts: int
    lost: int
    """Without a vote."""
    lost_interval: Interval
    failure_classes: dict[str, int]
    stop_reasons: dict[str, int]
    tool_calls: int
    tool_errors: int
    """Calls that were answered with an error text, which the policy may learn from."""
    tool_error_interval: Interval | None
    calls_per_episode: float
    tokens_per_episode: float
    """Sampled ones."""
    seconds_per_episode: float
    cost_usd: float
    """Of all rollouts at `rollout.prices`, and of their grades; repeated grades are not in it."""

    @property
    def tool_error_fraction(self) -> float:
        return self.tool_errors / self.tool_calls if self.tool_calls else 0.0


@dataclass(frozen=True)
class ProbeReport:
    """Whether a task can be learned. Scores are shares of the grader's range; intervals are 95 %, over items."""

    name: str
    policy: str
    verdict: Verdict
    reasons: tuple[Reason, ...] = field(repr=False)
    samples: int
    """Rollouts of each item."""
    planned_samples: int
    """`ppo.samples_per_task`, which hosted RFT calls compute_multiplier."""
    mean: Estimate | None = field(repr=False)
    """Over all probed items, as all figures that are of no split."""
    best_of: BestOf | None = field(repr=False)
    groups: Groups = field(repr=False)
    shares: dict[int, Estimate] = field(repr=False)
    """Samples of a task -> share of items that would vary: as planned, at twice and at four times that."""
    advice: Advice | None = field(repr=False)
    repeatability: Repeatability | None = field(repr=False)
    effect: SmallestEffect | None = field(repr=False)
    conduct: Conduct = field(repr=False)
    splits: tuple[SplitFigures, ...] = field(repr=False)
    items: tuple[ItemScores, ...] = field(repr=False)
    tools: ToolLeaks | None = field(repr=False)
    twins: Twins | None = field(repr=False)
    first_output: Estimate | None = field(repr=False)
    """Share of episodes whose first tool output holds the answer."""
    split_gap: Interval | None = field(repr=False)
    plan: Plan | None = field(repr=False)
    unplanned: str = field(repr=False)
    seconds: float = 0.0

    def items_of(self, split: str) -> list[ItemScores]:
        """The items of one split, in the order of their ids."""
        return [item for item in self.items if item.split == split]

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON; None is what could not be measured."""
        record = asdict(self)
        record["items"] = [
            {
                "task_id": item.task_id,
                "split": item.split,
                "asked": item.asked,
                "scores": item.scores,
                "grades": item.grades,
                "passed": item.passed,
            }
            for item in self.items
        ]
        record["groups"] |= {"share": self.groups.share, "interval": self.groups.interval}
        for figures, split in zip(record["splits"], self.splits, strict=True):
            figures["groups"] |= {"share": split.groups.share, "interval": split.groups.interval}
        if self.repeatability is not None:
            record["repeatability"]["changed_interval"] = self.repeatability.changed_interval
        if self.plan is not None:
            record["plan"] = {
                "assumptions": {name: vars(value) for name, value in vars(self.plan.assumptions).items()},
                "figures": [{**vars(each.figure), "interval": each.interval} for each in self.plan.figures],
            }
        record["conduct"]["tool_error_fraction"] = self.conduct.tool_error_fraction
        return {"format": FORMAT, **record}

    def _repr_html_(self) -> str:
        """For notebooks: the verdict and the picture."""
        from agentrl.evaluation.probe.page import fragment

        return fragment(self)
