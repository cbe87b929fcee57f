"""The right answer in other words, which must be worth the same (metamorphic tests), and answers in a known order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

from agentrl.grading.attack.cases import wrong_answer
from agentrl.grading.attack.rows import BARE, Row, plain

N_FORMS = 5
"""Repeats of one answer, each in another form; the spread of their scores is what counts."""
FACTS = ("I looked for the page that the question is about.", "The figures are as that page states them.")
NEAR = 1.0005
"""A near miss, as a share of the right number."""


@dataclass(frozen=True)
class Change:
    """A way to say the same."""

    name: str
    about: str
    texts: Callable[[Row], Sequence[str]]
    """The right answer, in up to `N_FORMS` forms; nothing where the change does not apply."""
    is_prose: bool = False
    """The texts are whole answers in words: not for rows whose answers have a form of their own."""

    def answers(self, row: Row) -> list[str]:
        texts = list(self.texts(row))[:N_FORMS]
        if row.form != BARE:
            texts = [] if self.is_prose else [row.say(text) for text in texts]
        return texts if len(texts) > 1 else []


def _paraphrase(row: Row) -> Sequence[str]:
    x = row.text
    return (x, f"The answer is {x}", f"Answer: {x}", f"I looked it up: the answer is {x}.", f"It is {x}.")


def _order(row: Row) -> Sequence[str]:
    sentences = (f"The answer is {row.text}.", *FACTS)
    return [" ".join(order) for order in permutations(sentences)]


def _currency(row: Row) -> Sequence[str]:
    if row.value is None or row.is_percent or abs(row.value) < 1 or not row.text.lstrip("-")[0].isdigit():
        return ()
    sign, digits = ("-", row.text[1:]) if row.value < 0 else ("", row.text)
    return (row.text, f"{sign}${digits}", f"{sign}$ {digits}", f"{row.text} USD", f"{row.text} dollars")


def _separators(row: Row) -> Sequence[str]:
    if row.value is None or row.is_percent or abs(row.value) < 1000:
        return ()
    whole, dot, decimals = plain(row.value).partition(".")
    grouped = f"{int(whole):,}{dot}{decimals}"
    return (plain(row.value), grouped, f"The answer is {grouped}.", f"Answer: {plain(row.value)}", f" {grouped} ")


def _markup(row: Row) -> Sequence[str]:
    x = row.text
    return (x, f"  {x}\n", f"**{x}**", f"{x}.", f"`{x}`")


def _percent(row: Row) -> Sequence[str]:
    if row.value is None or not row.is_percent:
        return ()
    fraction, percent = plain(row.value), plain(row.value * 100)
    return (fraction, f"{percent}%", f"{percent} %", f"{percent} percent", f"{percent} per cent")


CHANGES: tuple[Change, ...] = (
    Change("paraphrase", "the answer in a sentence", _paraphrase, is_prose=True),
    Change("order", "independent sentences in another order", _order, is_prose=True),
    Change("currency", "with and without a currency", _currency),
    Change("separators", "with and without thousands separators", _separators),
    Change("markup", "blanks, bold, code, a full stop", _markup, is_prose=True),
    Change("percent", "a fraction and its percentage", _percent),
)


def ladder(row: Row) -> dict[str, str]:
    """Answers by how good they are, best first: `right`, `near` where the answer is a number, `wrong` where it can be
    told what would be."""
    rungs = {"right": row.text}
    if row.value is not None and row.value * NEAR != row.value:
        rungs["near"] = plain(row.value * NEAR)
    if (wrong := wrong_answer(row)) is not None:
        rungs["wrong"] = wrong
    return {rung: row.say(text) for rung, text in rungs.items()}
