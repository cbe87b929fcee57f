"""The sampled tokens of one turn, each with its numbers and the colour of each number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from agentrl.printable import visible
from agentrl.runs.files import finite
from agentrl.runs.token_facts import Numbers, TokenFacts
from agentrl.ui.traces.loose import list_of, mapping_of

MAX_TOKENS = 4000
"""Of one turn at a time."""
PROBABILITIES = (0.99, 0.9, 0.5, 0.2, 0.05, 0.01)
"""Lower bounds of the levels of a probability, the last level open."""
PARTS = (-5 / 7, -3 / 7, -1 / 7, 1 / 7, 3 / 7, 5 / 7)
"""Of the largest size, between the levels of a number with a sign."""
MEASURES = {
    "logprob": "log-probability",
    "advantage": "advantage",
    "value": "value",
    "kl": "log-ratio to the reference",
}


class Spelling(Protocol):
    """Says what tokens are as text."""

    def __call__(self, token_ids: Sequence[int], /) -> list[str | None]:
        """[T] None where a token is part of a character that later ones complete."""


@dataclass(frozen=True)
class Level:
    """A colour of the legend."""

    level: int
    label: str


@dataclass(frozen=True)
class Measure:
    """A number that tokens have, and its colours."""

    key: str
    label: str
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class TokenView:
    """One token."""

    text: str
    """Control characters as symbols; its id where there is no text."""
    title: str
    """Its numbers in words."""
    levels: dict[str, int]
    """Colour by measure."""
    ends_line: bool
    """It holds a line break, which the symbol in `text` does not make."""


@dataclass(frozen=True)
class TokenStrip:
    """The tokens of a turn, or part of them."""

    turn: int
    tokens: tuple[TokenView, ...]
    first: int
    total: int
    measures: tuple[Measure, ...]
    """Those that at least one token of the episode has."""
    notes: tuple[str, ...]
    """What is missing, and why."""

    @property
    def next_first(self) -> int | None:
        """Where the next part begins; None at the end."""
        after = self.first + len(self.tokens)
        return after if after < self.total else None


def token_strip(
    trace: Mapping[str, Any], turn: int, *, first: int = 0, facts: TokenFacts | None = None, spell: Spelling | None
) -> TokenStrip | None:
    """The tokens of a turn; None where the episode has no such turn.

    Args:
        turn: from 1.
        first: token to begin with.
        facts: what the update saw, where it learned from the episode.
        spell: the run's tokenizer, where it is found.
    """
    turns = list_of(trace.get("turns"))
    if not 1 <= turn <= len(turns):
        return None
    columns = [_columns(mapping_of(each), index, facts) for index, each in enumerate(turns)]
    measures, limits = [], {}
    for key, label in MEASURES.items():
        sizes = [abs(number) for each in columns for number in each[key] if number is not None]
        if sizes:
            limits[key] = max(sizes)
            measures.append(Measure(key, label, _legend(key, limits[key])))
    this = mapping_of(turns[turn - 1])
    token_ids = [each if isinstance(each, int) else -1 for each in list_of(this.get("token_ids"))]
    notes: list[str] = []
    texts = _texts(token_ids, spell, this.get("text"), notes)
    if not token_ids:
        unseen = int(finite(this.get("unseen_tokens")) or 0)
        notes.append(f"The server counted {unseen} tokens and told none." if unseen else "No tokens are recorded.")
    shown = range(min(first, len(token_ids)), min(first + MAX_TOKENS, len(token_ids)))
    own = columns[turn - 1]
    views = [_view(n, token_ids[n], texts[n], {key: own[key][n] for key in MEASURES}, limits) for n in shown]
    return TokenStrip(turn, tuple(views), shown.start, len(token_ids), tuple(measures), tuple(notes))


def _columns(turn: Mapping[str, Any], index: int, facts: TokenFacts | None) -> dict[str, list[float | None]]:
    """[T] of each measure, None where a token has none."""
    size = len(list_of(turn.get("token_ids")))

    def padded(numbers: Sequence[object]) -> list[float | None]:
        found = [finite(each) for each in numbers[:size]]
        return [*found, *[None] * (size - len(found))]

    def told(numbers: Numbers | None) -> list[float | None]:
        return padded(numbers[index] if numbers is not None and index < len(numbers) else ())

    logprobs, references = told(facts.logprobs if facts else None), told(facts.ref_logprobs if facts else None)
    return {
        "logprob": padded(list_of(turn.get("engine_logprobs"))),
        "advantage": told(facts.advantages if facts else None),
        "value": told(facts.values if facts else None),
        "kl": [
            None if ours is None or theirs is None else ours - theirs
            for ours, theirs in zip(logprobs, references, strict=True)
        ],
    }


def _texts(token_ids: Sequence[int], spell: Spelling | None, written: object, notes: list[str]) -> list[str | None]:
    if spell is None:
        notes.append(
            "The run's tokenizer is not here (tokenizer.json of its checkpoints or its baseline): ids are shown."
        )
        return [None] * len(token_ids)
    texts = spell(token_ids)
    if isinstance(written, str) and written.strip() not in "".join(text or "" for text in texts):
        notes.append("These texts do not spell the turn as it was recorded: the tokenizer may be another one.")
    return texts


def _view(
    position: int, token_id: int, text: str | None, numbers: Mapping[str, float | None], limits: Mapping[str, float]
) -> TokenView:
    said = [f"token {position + 1}, id {token_id}"]
    levels = {}
    for key, number in numbers.items():
        if number is None:
            continue
        levels[key] = level_of(key, number, limits[key])
        said.append(
            f"{MEASURES[key]} {_signed(number, 4)}" + (f" (p {_probability(number):.3g})" if key == "logprob" else "")
        )
    spelled = f"[{token_id}]" if text is None else visible(text.replace("\n", "↵")).replace("\t", "⇥")
    return TokenView(spelled or "∅", " · ".join(said), levels, "\n" in (text or ""))


def level_of(key: str, number: float, limit: float) -> int:
    """The colour of a number: of a log-probability from sure (0) to surprising, else from lowest to highest."""
    if key == "logprob":
        return sum(_probability(number) < bound for bound in PROBABILITIES)
    return sum(number > part * limit for part in PARTS)


def _probability(logprob: float) -> float:
    return math.exp(min(0.0, logprob))


def _legend(key: str, limit: float) -> tuple[Level, ...]:
    if key == "logprob":
        bounds = [f"{bound:g}" for bound in PROBABILITIES]
        middle = [f"{low} to {high}" for high, low in pairwise(bounds)]
        labels = [f"p ≥ {bounds[0]}", *middle, f"below {bounds[-1]}"]
    else:
        edges = [_signed(part * limit, 2) for part in PARTS]
        middle = [f"{low} to {high}" for low, high in pairwise(edges)]
        labels = [f"to {edges[0]}", *middle, f"above {edges[-1]}"]
    return tuple(Level(level, label) for level, label in enumerate(labels))


def _signed(number: float, digits: int) -> str:
    return f"{number:+.{digits}g}".replace("-", "−")
