"""The items that changed most, an episode of either policy side by side."""

from __future__ import annotations

from agentrl.evaluation.comparison.items import ItemChange
from agentrl.evaluation.comparison.policies import PolicyComparison
from agentrl.evaluation.documents import text
from agentrl.evaluation.samples import episode
from agentrl.runs.traces import to_trace


def episodes_section(comparison: PolicyComparison, k: int) -> str:
    """The HTML of the section, folded item by item; empty text for none."""
    chosen = comparison.most_changed(k)
    if not chosen:
        return ""
    return (
        '<h2 id="episodes">Episodes that changed most</h2><p class="note">Rises and falls of the reward by turns, the '
        "largest first; of each item the two episodes that show its change best.</p>"
        + "".join(_item(item, is_open=index == 0) for index, item in enumerate(chosen))
    )


def _item(item: ItemChange, *, is_open: bool) -> str:
    calls = f"calls {item.tool_calls[0]:.3g} to {item.tool_calls[1]:.3g}"
    summary = f"{text(item.task_id)} <small>reward {item.reward[0]:.3g} to {item.reward[1]:.3g}, {calls}</small>"
    sides = "".join(
        episode(f"{name}: reward {rollout.grade.score:.3g}", to_trace(rollout))
        for name, rollout in zip("AB", item.rollouts, strict=True)
    )
    attribute = " open" if is_open else ""
    return f'<details class="part"{attribute}><summary>{summary}</summary><div class="samples">{sides}</div></details>'
