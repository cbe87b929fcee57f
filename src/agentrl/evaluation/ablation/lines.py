"""How the figures of an ablation are written, on a terminal and on a page: heads, cells, and how to read them."""

from __future__ import annotations

from agentrl.evaluation.ablation.cuts import REMOVED, Part
from agentrl.evaluation.ablation.figures import MARGIN, MIN_ITEMS, Group
from agentrl.evaluation.intervals import RESAMPLES, SEED
from agentrl.evaluation.table import format_change, format_level

HEAD = ("control", "without", "change", "95 % interval", "calls", "verdict", "turns", "items")
VERDICT = HEAD.index("verdict")
MEANING = (
    f"Observation: the outputs of the turn's calls read {REMOVED!r}. Thought: what the turn says before its calls is "
    "cut out. Control: the same beginning, nothing removed, sampled anew from the same seeds. Calls: change of the "
    "tool calls made after the turn."
)
VERDICTS = (
    f"needed: without it the reward is lower; useless: removing it costs less than {MARGIN:g}; harmful: without it the "
    f"reward is higher; unclear: the interval, or fewer than {MIN_ITEMS} items, decides nothing."
)


def label(group: Group) -> str:
    """For example `observation, all turns`, and under it `of cat`, `turn 2`; a thought is `before cat`."""
    if group.by == "all":
        return f"{group.part.value}, {group.name}"
    where = "of" if group.part is Part.OBSERVATION else "before"
    return f"  {where} {group.name}" if group.by == "tool" else f"  {group.name}"


def cells(group: Group) -> tuple[str, ...]:
    """The row under HEAD."""
    reward, calls = group.changes["reward"], group.changes["tool_calls"]
    ends = [format_change(end, "score") for end in reward.interval or ()]
    return (
        format_level(reward.control, "score"),
        format_level(reward.without, "score"),
        format_change(reward.change, "score"),
        f"[{', '.join(ends)}]" if ends else "n/a",
        format_change(calls.change, "count"),
        group.verdict,
        str(group.n_turns),
        str(group.n_items),
    )


def notes(n_rows: int, n_lost: int) -> list[str]:
    """How to read the table.

    Args:
        n_lost: pairs that were left out.
    """
    lost = [f"{n_lost} pair{'s' * (n_lost != 1)} left out: one of its episodes has no grade."] * bool(n_lost)
    intervals = (
        f"Intervals: paired percentile bootstrap over items ({RESAMPLES:,} resamples, seed {SEED}), each row for "
        f"itself; of {n_rows} rows one in twenty may exclude 0 by chance."
    )
    return [*lost, MEANING, VERDICTS, intervals]
