"""Subsets of the items by their tags, each a comparison of its own, and how many there were to choose from."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentrl.evaluation.comparison.figures import Figure, mean_figure
from agentrl.evaluation.comparison.measures import is_success
from agentrl.evaluation.comparison.pairs import Pairs
from agentrl.evaluation.comparison.significance import holm, sign_flip_p_values
from agentrl.evaluation.tags import tags_of


@dataclass(frozen=True)
class TagChange:
    """The items with one tag."""

    tag: str
    reward: Figure
    success_rate: Figure
    tool_calls: Figure
    p_value: float
    """Of no change of the reward, by flipping items' signs."""
    p_holm: float
    """The same, allowing for all tags."""


@dataclass(frozen=True)
class TagChanges:
    """All tags; an item with several is counted under each."""

    looks: int
    """Tags that there were to choose from, those included that neither evaluation was made on."""
    untagged: int
    """Items without a tag."""
    rows: tuple[TagChange, ...] = field(repr=False)
    """By name."""


def tag_changes(pairs: Pairs, looked_at: int = 0) -> TagChanges:
    """Compare tag by tag.

    Args:
        looked_at: tags that there were before some were chosen to be measured on.
    """
    tags = [tags_of(pairs.voting[0][task_id][0].task) for task_id in pairs.task_ids]
    names = sorted({tag for each in tags for tag in each})
    reward = pairs.item_means(lambda rollout: rollout.grade.score)
    success = pairs.item_means(lambda rollout: is_success(rollout, pairs.pass_threshold))
    calls = pairs.item_means(lambda rollout: len(rollout.tool_calls))
    members = {name: [name in each for each in tags] for name in names}
    p_values = [
        float(sign_flip_p_values((reward[chosen, 1] - reward[chosen, 0])[:, None])[0]) for chosen in members.values()
    ]
    unseen = [1.0] * (looked_at - len(names))
    rows = tuple(
        TagChange(
            tag=name,
            reward=mean_figure(reward[members[name]]),
            success_rate=mean_figure(success[members[name]]),
            tool_calls=mean_figure(calls[members[name]]),
            p_value=p_value,
            p_holm=adjusted,
        )
        for name, p_value, adjusted in zip(names, p_values, holm([*p_values, *unseen]), strict=False)
    )
    return TagChanges(len(rows) + len(unseen), sum(not each for each in tags), rows)
