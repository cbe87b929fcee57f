"""From the verdicts of a stage to what happens next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from agentrl.config.durations import seconds_of
from agentrl.config.release import GateConfig
from agentrl.release.records import Outcome, Verdict

Action = Literal["advance", "rollback", "wait", "expire"]


@dataclass(frozen=True)
class Decision:
    """What the verdicts of one look allow, or demand."""

    action: Action
    """advance where every gate passed; rollback where one failed; expire where one stayed undecided too long."""
    because: tuple[str, ...]
    """`gate: reason` of those that it rests on."""
    is_paused: bool = False
    """A verdict is invalid: the evidence cannot be trusted, so no share may grow until that is found out."""


def decide(
    verdicts: Iterable[Verdict], *, waited_seconds: float, gates: Sequence[GateConfig] = (), min_seconds: float = 0.0
) -> Decision:
    """A fail brings a release back at once. Nothing is promoted by waiting.

    Args:
        verdicts: of one look at all gates of a stage; those that are only shown decide nothing.
        waited_seconds: how long the release has been in the stage.
        gates: the rows, for their `max_wait`; without them nothing expires.
        min_seconds: how long it must have been, such as `release.min_canary`.
    """
    found = [each for each in verdicts if not each.is_shown_only]
    failed, invalid, undecided = (
        [each for each in found if each.verdict is outcome]
        for outcome in (Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE)
    )
    if failed:
        return Decision("rollback", _told(failed))
    if not found:
        return Decision("wait", ("no gate is read in this stage, so nothing is shown",))
    open_ones = [*invalid, *undecided]
    waits = {gate.name: seconds_of(gate.max_wait) for gate in gates}
    late = [each for each in open_ones if each.gate in waits and waited_seconds > waits[each.gate]]
    if late:
        return Decision("expire", _told(late), is_paused=bool(invalid))
    if open_ones:
        return Decision("wait", _told(open_ones), is_paused=bool(invalid))
    if waited_seconds < min_seconds:
        left = _span(min_seconds - waited_seconds)
        return Decision("wait", (f"every gate passes; {left} of the shortest time in this stage are left",))
    return Decision("advance", _told(found))


def _told(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    return tuple(f"{each.gate}: {each.reason}" for each in verdicts)


def _span(seconds: float) -> str:
    """2.5 d, 3.0 h, 40 s."""
    for unit, size in (("d", 86400), ("h", 3600)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
