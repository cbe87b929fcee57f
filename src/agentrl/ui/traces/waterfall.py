"""When what happened: generations one after the other, the tools of a turn side by side, the grader at the end.

A trace has durations and no clock times. Turns follow each other, and the calls of one turn run in parallel, so a bar
begins where what it waited for ended. What is left of the episode's wall time (the queue for a place among concurrent
episodes, encoding) is told as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrl.ui.traces.views import EpisodeView

MIN_UNTOLD_FRACTION = 0.02
"""Of the wall time, below which the rest is rounding."""


@dataclass(frozen=True)
class Bar:
    """Something that took time."""

    label: str
    kind: str
    """generation, tool, grading or untold."""
    turn: int | None
    start: float
    """Seconds from the first token asked for."""
    seconds: float
    is_error: bool = False
    is_retried: bool = False


@dataclass(frozen=True)
class Waterfall:
    """The bars in the order in which they begin."""

    bars: tuple[Bar, ...]
    seconds: float
    """From the first bar's begin to the last one's end."""
    by_kind: dict[str, float]
    """Seconds that passed; parallel tools count once."""


def waterfall(episode: EpisodeView) -> Waterfall | None:
    """The bars of an episode; None where nothing was timed."""
    bars: list[Bar] = []
    clock, in_tools = 0.0, 0.0
    for turn in episode.turns:
        generation = max(0.0, turn.seconds or 0.0)
        bars.append(Bar("generation", "generation", turn.number, clock, generation, is_retried=turn.attempts > 1))
        clock += generation
        answered = [result for result in turn.results if result.seconds]
        bars += [
            Bar(
                each.name or "tool", "tool", turn.number, clock, max(0.0, each.seconds or 0.0),
                is_error=each.is_error, is_retried=each.attempts > 1,
            )
            for each in answered
        ]  # fmt: skip
        longest = max((max(0.0, each.seconds or 0.0) for each in answered), default=0.0)
        clock, in_tools = clock + longest, in_tools + longest
    generating = clock - in_tools
    untold = (episode.seconds or 0.0) - clock
    if untold <= MIN_UNTOLD_FRACTION * (episode.seconds or 0.0):
        untold = 0.0
    else:
        bars.append(Bar("waiting, encoding", "untold", None, clock, untold))
        clock += untold
    grading = max(0.0, episode.grade.seconds or 0.0)
    if grading:
        bars.append(Bar("grader", "grading", None, clock, grading, is_error=episode.grade.score is None))
        clock += grading
    if clock <= 0:
        return None
    by_kind = {"generation": generating, "tools": in_tools, "grading": grading, "untold": untold}
    return Waterfall(tuple(bars), clock, {kind: seconds for kind, seconds in by_kind.items() if seconds > 0})
