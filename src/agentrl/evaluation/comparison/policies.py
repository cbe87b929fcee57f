"""Two policies on the same items: what changed, by how much, on which items, and in which episodes to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.disk import write_together
from agentrl.evaluation.compare import Comparison
from agentrl.evaluation.compare import compare as compare_reports
from agentrl.evaluation.comparison.admission import admit, without_holdouts
from agentrl.evaluation.comparison.figures import Figure
from agentrl.evaluation.comparison.items import (
    ItemChange,
    McNemar,
    Share,
    Wins,
    item_changes,
    mcnemar,
    most_changed,
    shares,
    wins,
)
from agentrl.evaluation.comparison.losses import Losses, losses
from agentrl.evaluation.comparison.measures import differences, pass_at_k
from agentrl.evaluation.comparison.pairs import OTHER_TASK, Pairs, pair
from agentrl.evaluation.comparison.patterns import PatternChanges, pattern_changes
from agentrl.evaluation.comparison.tags import TagChanges, tag_changes
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.metrics import evaluate_rollouts
from agentrl.evaluation.run_evaluations import find_evaluation
from agentrl.runs.files import to_json
from agentrl.runs.identity import Change

if TYPE_CHECKING:
    from agentrl.evaluation.comparison.plots import Plot

FORMAT = "agentrl-comparison/1"
SHOWN_EPISODES = 6


@dataclass(frozen=True)
class PolicyComparison:
    """B against A, paired by item; figures are computed when they are first asked for.

    In a notebook it shows itself as the page that `agentrl compare --out` writes.
    """

    a: Evaluation
    b: Evaluation
    allowed: tuple[Change, ...] = ()
    """Conditions that differ all the same, because they were allowed to."""
    pairs: Pairs = field(repr=False, kw_only=True)

    def __repr__(self) -> str:
        reward = self.differences["reward"]
        return (
            f"PolicyComparison({self.a.name!r} -> {self.b.name!r}, {self.n_items} items, "
            f"reward {reward.baseline:.3f} -> {reward.candidate:.3f})"
        )

    @property
    def n_items(self) -> int:
        """Items that both have a grade for."""
        return len(self.pairs.task_ids)

    @cached_property
    def comparison(self) -> Comparison:
        """The figures that a run's summary.json has."""
        is_other = {task_id for task_id, reason in self.pairs.left_out.items() if reason == OTHER_TASK}
        reports = [
            evaluate_rollouts(
                (rollout for task_id in side.keys() - is_other for rollout in side[task_id]),
                pass_threshold=self.pairs.pass_threshold,
                name=evaluation.name,
                tools=self.pairs.tools,
            )
            for evaluation, side in zip((self.a, self.b), self.pairs.everything, strict=True)
        ]
        return compare_reports(*reports)

    @cached_property
    def differences(self) -> dict[str, Figure]:
        """Every figure by its name, B against A."""
        return differences(self.pairs)

    @cached_property
    def items(self) -> tuple[ItemChange, ...]:
        """Every item, by task id."""
        return item_changes(self.pairs)

    def quadrants(self) -> dict[str, int]:
        """Items by what became of reward and calls, such as `better_fewer`; they sum to `n_items`."""
        return self.comparison.quadrants

    def quadrant_shares(self) -> dict[str, Share]:
        """The same with intervals."""
        return shares(self.quadrants(), self.n_items)

    @cached_property
    def wins(self) -> Wins:
        """Items that B does better, equally well, worse."""
        return wins(self.items)

    @cached_property
    def mcnemar(self) -> McNemar:
        """The exact test of success, for one sample an item."""
        return mcnemar(self.items)

    @cached_property
    def pass_at_k(self) -> dict[str, dict[int, Figure]]:
        """`pass_at_k` and `pass_hat_k` by k."""
        return pass_at_k(self.pairs)

    @cached_property
    def patterns(self) -> dict[str, PatternChanges]:
        """Sequences of tools, loops, first and last tool."""
        return pattern_changes(self.pairs)

    @cached_property
    def losses(self) -> tuple[Losses, Losses]:
        """[A, B] What has no vote, and whether that follows difficulty."""
        return losses(self.pairs)

    @cached_property
    def tags(self) -> TagChanges:
        """Subsets of the items."""
        looked_at = [side.selection.get("tags_looked_at") for side in (self.a, self.b)]
        return tag_changes(self.pairs, max((each for each in looked_at if isinstance(each, int)), default=0))

    def most_changed(self, k: int = SHOWN_EPISODES) -> tuple[ItemChange, ...]:
        """The items that changed most, rises and falls by turns, each with an episode of either side."""
        return most_changed(self.items, k)

    def quadrant_plot(self) -> Plot:
        """Change of reward against change of tool calls, a point an item."""
        from agentrl.evaluation.comparison.plots import quadrant_plot

        return quadrant_plot(self)

    def latency_plot(self) -> Plot:
        """Reward against latency, a point an item and policy."""
        from agentrl.evaluation.comparison.plots import latency_plot

        return latency_plot(self)

    def tool_plot(self) -> Plot:
        """Calls an episode by tool."""
        from agentrl.evaluation.comparison.plots import tool_plot

        return tool_plot(self)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as compare.json has it; NaN and None are both null there."""
        return {
            "format": FORMAT,
            **self.comparison.as_dict(),
            "allowed_differences": [each.to_record() for each in self.allowed],
            "pass_threshold": self.pairs.pass_threshold,
            "a": _side(self.a),
            "b": _side(self.b),
            "left_out": dict(self.pairs.left_out),
            "differences": {name: asdict(figure) for name, figure in self.differences.items()},
            "quadrant_shares": {name: asdict(each) for name, each in self.quadrant_shares().items()},
            "wins": asdict(self.wins),
            "mcnemar": asdict(self.mcnemar),
            **{name: {str(k): asdict(figure) for k, figure in by_k.items()} for name, by_k in self.pass_at_k.items()},
            "patterns": {kind: asdict(each) for kind, each in self.patterns.items()},
            "losses": {side: asdict(each) for side, each in zip("ab", self.losses, strict=True)},
            "tags": asdict(self.tags),
            "items": [_item(each) for each in self.items],
            "most_changed": [each.task_id for each in self.most_changed()],
        }

    def to_text(self) -> str:
        """A summary for a terminal."""
        from agentrl.evaluation.comparison.summary import to_text

        return to_text(self)

    def to_markdown(self) -> str:
        """A summary for a pull request."""
        from agentrl.evaluation.comparison.summary import to_markdown

        return to_markdown(self)

    def to_html(self, *, episodes: int = SHOWN_EPISODES) -> str:
        """One page that needs no network; with the `episodes` items that changed most."""
        from agentrl.evaluation.comparison.page import to_html

        return to_html(self, episodes=episodes)

    def _repr_html_(self) -> str:
        from agentrl.evaluation.documents import framed

        return framed(self.to_html(), title="comparison")

    def write(self, folder: str | Path, *, episodes: int = SHOWN_EPISODES) -> Path:
        """compare.html, compare.json and compare.md in a folder, which is made; all three, or none.

        Raises:
            OSError: they cannot be written.
        """
        pages = {
            "compare.html": self.to_html(episodes=episodes),
            "compare.json": to_json(self.as_dict(), indent=2) + "\n",
            "compare.md": self.to_markdown(),
        }
        return write_together(Path(folder), pages)


def compare(
    a: Evaluation | str | Path, b: Evaluation | str | Path, *, allow_difference: Sequence[str] = ()
) -> PolicyComparison:
    """Compare policy B with policy A.

    Args:
        a, b: an evaluation, its file, or `RUN@baseline`, `RUN@best`, `RUN@final`, `RUN@STEP`.
        allow_difference: conditions, or sections of conditions, that may differ; what did is part of the result.

    Raises:
        ConfigError: there is no such evaluation, or the two must not be compared; the message names the difference.
    """
    first, second = (each if isinstance(each, Evaluation) else find_evaluation(each) for each in (a, b))
    if first.name == second.name:  # two files may name one policy alike
        first, second = (replace(each, name=f"{each.name} ({side})") for each, side in ((first, "A"), (second, "B")))
    changes = admit(first, second, tuple(allow_difference))
    first, second = without_holdouts(first, changes), without_holdouts(second, changes)
    return PolicyComparison(first, second, tuple(changes), pairs=pair(first, second))


def _side(evaluation: Evaluation) -> dict[str, Any]:
    report = evaluation.report
    return {
        "name": evaluation.name,
        "policy": dict(evaluation.policy),
        "selection": dict(evaluation.selection),
        "created_at": evaluation.created_at,
        "rollouts": len(evaluation.rollouts),
        "ungraded": report.ungraded,
        "items": report.n_items + report.n_items_ungraded,
        "grader_versions": report.grader_versions,
    }


def _item(item: ItemChange) -> dict[str, Any]:
    record = {name: value for name, value in vars(item).items() if name != "rollouts"}
    return {**record, "rollouts": [each.id for each in item.rollouts]}
