"""Tools without side effects: the baseline's trace answers the calls that it has, and nothing is ever executed."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentrl.strict_json import strict_json

DRY_RUN = "Not carried out: this is a dry run, and there is no recorded result of this call."
ANSWER = "answer"
"""In the place of a tool's name: the turn ended there."""


@dataclass(frozen=True)
class Call:
    """A call of a tool as a model wrote it."""

    name: str
    arguments: str
    """JSON as text."""
    id: str = ""

    @property
    def key(self) -> str:
        """Equal for calls that mean the same: the order of keys, blanks and escapes do not count."""
        try:
            value = strict_json(self.arguments or "{}")
        except (ValueError, RecursionError):
            return f"{self.name} ? {self.arguments.strip()}"
        return f"{self.name} {json.dumps(value, sort_keys=True, separators=(',', ':'))}"


@dataclass(frozen=True)
class RecordedCall:
    """A call of the baseline, and what the client answered."""

    call: Call
    output: Any = field(repr=False)
    """The content of the tool's message, as the protocol has it."""


@dataclass(frozen=True)
class Divergence:
    """Where the candidate first did something else; what follows is weaker evidence."""

    step: int
    """Calls that were the same until then."""
    kind: str
    """other_tool, other_arguments, answered_early (where the baseline called), called_on (where it answered)."""
    baseline: str
    """Name of the tool that it called, or `answer`."""
    candidate: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Replay:
    """The recorded results of one turn; each is used once, those of equal calls in their order."""

    def __init__(self, trace: Sequence[RecordedCall]) -> None:
        self._trace = tuple(trace)
        self._left: dict[str, deque[Any]] = defaultdict(deque)
        for each in trace:
            self._left[each.call.key].append(each.output)
        self.made: list[Call] = []
        self.unmatched = 0

    def answer(self, call: Call) -> Any:
        """What the candidate is told: the recorded result, or that this is a dry run."""
        self.made.append(call)
        if left := self._left.get(call.key):
            return left.popleft()
        self.unmatched += 1
        return DRY_RUN

    def first_divergence(self) -> Divergence | None:
        """Of the calls made so far, as if the turn ended now; None where they are the baseline's."""
        theirs = [each.call for each in self._trace]
        for step in range(max(len(theirs), len(self.made))):
            mine = self.made[step] if step < len(self.made) else None
            other = theirs[step] if step < len(theirs) else None
            if mine is None or other is None:
                kind = "answered_early" if mine is None else "called_on"
            elif mine.name != other.name:
                kind = "other_tool"
            elif mine.key != other.key:
                kind = "other_arguments"
            else:
                continue
            return Divergence(step, kind, other.name if other else ANSWER, mine.name if mine else ANSWER)
        return None
