"""Which habits grew or faded: sequences of tools, rounds that repeat, the first and the last tool.

Many patterns are looked at, so each gets a p-value that allows for all of its kind (Holm), and how many there were is
part of the result. What counts as looked at is decided by how often a pattern occurs, both sides together, and never
by how much it changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from agentrl.evaluation.comparison.figures import Figure, mean_figures
from agentrl.evaluation.comparison.loops import find_loops
from agentrl.evaluation.comparison.pairs import Pairs
from agentrl.evaluation.comparison.significance import holm, sign_flip_p_values
from agentrl.types import Rollout

Pattern = tuple[str, ...]
MIN_ITEMS = 5
"""With the pattern on either side: fewer cannot show a change."""
MAX_LOOKS = 200
NO_CALL = "(no call)"


@dataclass(frozen=True)
class PatternChange:
    """One pattern on both sides."""

    tools: Pattern
    counts: tuple[int, int]
    """[A, B] Times that it occurs in the episodes that are compared."""
    per_episode: Figure
    """Mean over items of the mean over an item's episodes."""
    items_rarer: int
    items_more_frequent: int
    p_value: float
    """Of no change, by flipping items' signs."""
    p_holm: float
    """The same, allowing for all the patterns of this kind."""

    @property
    def is_clear(self) -> bool:
        return self.p_holm < 0.05


@dataclass(frozen=True)
class PatternChanges:
    """All patterns of one kind."""

    kind: str
    looks: int
    """Patterns that were looked at; each stands in `rows`."""
    passed_over: int
    """Patterns in fewer than MIN_ITEMS items, or beyond the MAX_LOOKS most frequent."""
    rows: tuple[PatternChange, ...] = field(repr=False)
    """The clearest change first."""


def pattern_changes(pairs: Pairs) -> dict[str, PatternChanges]:
    """By kind."""
    sequence = pairs.tool_sequence
    kinds: dict[str, Callable[[Rollout], Iterable[Pattern]]] = {
        "tool_2grams": lambda rollout: ngrams(sequence(rollout), 2),
        "tool_3grams": lambda rollout: ngrams(sequence(rollout), 3),
        "loops": lambda rollout: (loop.block for loop in find_loops(sequence(rollout))),
        "first_tool": lambda rollout: [sequence(rollout)[:1] or (NO_CALL,)],
        "last_tool": lambda rollout: [sequence(rollout)[-1:] or (NO_CALL,)],
    }
    return {kind: _changes(pairs, kind, patterns) for kind, patterns in kinds.items()}


def ngrams(sequence: Pattern, n: int) -> list[Pattern]:
    """All runs of n tools, overlapping ones included."""
    return [sequence[start : start + n] for start in range(len(sequence) - n + 1)]


def _changes(pairs: Pairs, kind: str, patterns: Callable[[Rollout], Iterable[Pattern]]) -> PatternChanges:
    counted = [
        [[Counter(patterns(rollout)) for rollout in side[task_id]] for side in pairs.voting]
        for task_id in pairs.task_ids
    ]
    totals = [sum((each for item in counted for each in item[side]), Counter[Pattern]()) for side in (0, 1)]
    items = Counter(pattern for item in counted for pattern in {p for side in item for each in side for p in each})
    everything = totals[0] + totals[1]
    frequent = [pattern for pattern in everything if items[pattern] >= MIN_ITEMS]
    looked_at = sorted(frequent, key=lambda pattern: (-everything[pattern], pattern))[:MAX_LOOKS]
    if not looked_at:
        return PatternChanges(kind, 0, len(everything), ())
    means_KN2 = np.array(
        [
            [[sum(each[pattern] for each in side) / len(side) for side in item] for item in counted]
            for pattern in looked_at
        ]
    )
    changes_KN = means_KN2[:, :, 1] - means_KN2[:, :, 0]
    p_values = sign_flip_p_values(changes_KN.T)
    rows = [
        PatternChange(
            tools=pattern,
            counts=(totals[0][pattern], totals[1][pattern]),
            per_episode=figure,
            items_rarer=int((changes_N < -1e-9).sum()),
            items_more_frequent=int((changes_N > 1e-9).sum()),
            p_value=float(p_value),
            p_holm=adjusted,
        )
        for pattern, figure, changes_N, p_value, adjusted in zip(
            looked_at, mean_figures(list(means_KN2)), changes_KN, p_values, holm(list(p_values)), strict=True
        )
    ]
    rows.sort(key=lambda row: (row.p_holm, -abs(row.per_episode.change), row.tools))
    return PatternChanges(kind, len(rows), len(everything) - len(rows), tuple(rows))
