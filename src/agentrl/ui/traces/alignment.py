"""Two episodes of one item, turn beside turn: which turns do the same, and what one has more than the other.

Turns are paired in order so that the pairs are as alike as they can be (Needleman and Wunsch 1970, with free gaps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.ui.traces.views import CallView, EpisodeView, TurnView

MAX_CELLS = 250_000
"""Of the table that pairs turns; longer episodes are paired by number."""
SAME, SAME_TOOLS, OTHER_TOOLS = 4.0, 3.0, 1.0


@dataclass(frozen=True)
class Pair:
    """Two turns beside each other, or one alone."""

    left: TurnView | None
    right: TurnView | None
    what: str
    """How they differ, in words."""
    is_same: bool = False
    differing: tuple[frozenset[str], ...] = ()
    """Of calls of the same tools: names of the arguments that are not the same, call by call."""


def pairs(left: Sequence[TurnView], right: Sequence[TurnView]) -> tuple[Pair, ...]:
    """All turns of both, in order."""
    if len(left) * len(right) > MAX_CELLS:
        longest = range(max(len(left), len(right)))
        return tuple(_pair(left[n] if n < len(left) else None, right[n] if n < len(right) else None) for n in longest)
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            paired = best[i + 1][j + 1] + likeness(left[i], right[j])
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    found, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if (both := likeness(left[i], right[j])) and best[i][j] == best[i + 1][j + 1] + both:
            found.append(_pair(left[i], right[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            found.append(_pair(left[i], None))
            i += 1
        else:
            found.append(_pair(None, right[j]))
            j += 1
    found += [_pair(turn, None) for turn in left[i:]]
    found += [_pair(None, turn) for turn in right[j:]]
    return tuple(found)


def likeness(left: TurnView, right: TurnView) -> float:
    """How alike two turns are: by the calls, else by whether both make none."""
    if bool(left.calls) != bool(right.calls):
        return 0.0  # an answer is never beside a call
    if [call.key for call in left.calls] == [call.key for call in right.calls]:
        return SAME
    names = [[call.name for call in turn.calls] for turn in (left, right)]
    return SAME_TOOLS if names[0] == names[1] else OTHER_TOOLS


def _pair(left: TurnView | None, right: TurnView | None) -> Pair:
    if left is None or right is None:
        return Pair(left, right, "only on the left" if right is None else "only on the right")
    if not left.calls and not right.calls:
        is_same = left.written == right.written
        return Pair(left, right, "the same text" if is_same else "another text", is_same)
    how = likeness(left, right)
    if how == SAME:
        return Pair(left, right, "the same calls", is_same=True)
    if how != SAME_TOOLS:
        return Pair(left, right, "other tools" if how else "a call and an answer")
    calls = zip(left.calls, right.calls, strict=True)
    return Pair(left, right, "the same tools, other arguments", differing=tuple(differing(*both) for both in calls))


def differing(left: CallView, right: CallView) -> frozenset[str]:
    """The arguments that two calls of a tool do not have alike."""
    one, other = ({each.name: each.value for each in call.arguments or ()} for call in (left, right))
    return frozenset(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@dataclass(frozen=True)
class Difference:
    """A figure of both."""

    name: str
    left: float | None
    right: float | None
    is_better_higher: bool | None = None
    """None where neither is better by itself: a call more may be what the answer took."""

    @property
    def change(self) -> float | None:
        return None if self.left is None or self.right is None else self.right - self.left

    @property
    def verdict(self) -> str:
        """better, worse, or nothing."""
        if not self.change or self.is_better_higher is None:
            return ""
        return "better" if (self.change > 0) == self.is_better_higher else "worse"


def differences(left: EpisodeView, right: EpisodeView) -> tuple[Difference, ...]:
    """What changed between two episodes, in figures."""
    names = sorted(left.grade.sub_scores.keys() | right.grade.sub_scores.keys())
    watched = sorted(left.grade.holdout.keys() | right.grade.holdout.keys())
    found = [
        Difference("score", left.grade.score, right.grade.score, is_better_higher=True),
        *(
            Difference(f"part {name}", left.grade.sub_scores.get(name), right.grade.sub_scores.get(name), True)
            for name in names
        ),
        *(
            Difference(f"hold-out {name}", left.grade.holdout.get(name), right.grade.holdout.get(name), True)
            for name in watched
        ),
        Difference("turns", len(left.turns), len(right.turns)),
        Difference("tool calls", left.tool_calls, right.tool_calls),
        Difference("repeated tools", repeated_tools(left), repeated_tools(right)),
        Difference("tool errors", tool_errors(left), tool_errors(right), is_better_higher=False),
        Difference("sampled tokens", left.output_tokens, right.output_tokens),
        Difference("seconds", left.seconds, right.seconds),
    ]
    if left.cost_usd or right.cost_usd:
        found.append(Difference("cost in USD", left.cost_usd, right.cost_usd))
    return tuple(found)


def repeated_tools(episode: EpisodeView) -> int:
    """Calls of the tool that was called just before."""
    names = [call.name for turn in episode.turns for call in turn.calls]
    return sum(name == before for name, before in zip(names[1:], names, strict=False))


def tool_errors(episode: EpisodeView) -> int:
    """Calls that were answered with an error."""
    return sum(result.is_error for turn in episode.turns for result in turn.results)
