"""Which episodes a list shows, as the parameters of its address: every view is a link."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.datastructures import QueryParams

from agentrl.types import FailureClass, Outcome
from agentrl.ui.index import EpisodeQuery, Order
from agentrl.ui.links import run_url, with_query

PAGE = 50
"""Episodes of one page of a list."""
MAX_SEARCH_CHARS = 1000
"""Of a text that is looked for: every word of it is looked up."""
UNASKED = "test"
"""The split that is shown where somebody asks for it: what is changed after reading it, it can no longer measure."""
ALL = "all"
SPLITS = ("train", "validation", "test", ALL)
OUTCOMES = tuple(each.value for each in Outcome)
FAILURES = tuple(each.value for each in FailureClass)
ORDERS = tuple(each.value for each in Order)
TEXTS = {"file": "file", "task": "task_id", "tool": "tool", "contains": "contains"}
CHOICES = {
    "split": ("split", SPLITS),
    "outcome": ("outcome", OUTCOMES),
    "failure": ("failure_class", FAILURES),
    "order": ("order", ORDERS),
}
NUMBERS = {"min_score": "min_score", "max_score": "max_score"}
"""Parameter -> field of the query (and what it may be)."""


@dataclass(frozen=True)
class EpisodeFilter:
    """A query, and what of the address was not understood."""

    query: EpisodeQuery = field(default_factory=lambda: EpisodeQuery(without_split=UNASKED))
    problems: tuple[str, ...] = ()
    """What was found, what is allowed; the list is shown without it."""

    @property
    def page(self) -> int:
        """From 1."""
        return self.query.offset // PAGE + 1

    @property
    def split(self) -> str:
        """As an address says it: nothing for all but test."""
        return self.query.split or ("" if self.query.without_split else ALL)

    @property
    def narrows(self) -> bool:
        """It leaves episodes out."""
        return bool(self.parameters().keys() - {"run", "order", "page"})

    def parameters(self, **changes: Any) -> dict[str, Any]:
        """Of an address that shows this; `changes` replace some, and lead to the first page."""
        query = self.query
        found: dict[str, Any] = {"run": query.runs}
        found |= {name: getattr(query, field_) for name, field_ in TEXTS.items()}
        found |= {name: getattr(query, field_) for name, (field_, _) in CHOICES.items()}
        found |= {name: getattr(query, field_) for name, field_ in NUMBERS.items()}
        found["split"] = "" if self.split == ALL and _names_episodes(query) else self.split
        found["order"] = query.order.value
        found["page"] = self.page if not changes else 1
        found |= changes
        defaults = {"order": Order.NEWEST.value, "page": 1}
        return {
            key: value for key, value in found.items() if value not in (None, "", ()) and value != defaults.get(key)
        }

    def list_url(self, **changes: Any) -> str:
        """The list that shows this: of its run, where it is of one alone, else of all."""
        asked = self.parameters(**changes)
        runs = asked.get("run", ())
        if isinstance(runs, tuple) and len(runs) == 1:
            del asked["run"]
            return run_url(runs[0], "episodes", **asked)
        return with_query("/episodes", **asked)

    def episode_url(self, run: str, rollout_id: str, *parts: str) -> str:
        """The page of an episode, from which j and k go on in this list."""
        return run_url(run, "episodes", rollout_id, *parts, **self.parameters())


def read_filter(parameters: QueryParams, *, run: str | None = None) -> EpisodeFilter:
    """What an address asks for; never raises.

    Args:
        run: the only one, where the path names it.
    """
    problems: list[str] = []
    asked: dict[str, Any] = {"runs": (run,) if run else tuple(dict.fromkeys(filter(None, parameters.getlist("run"))))}
    asked |= {field_: parameters.get(name, "") for name, field_ in TEXTS.items()}
    if len(asked["contains"]) > MAX_SEARCH_CHARS:
        problems.append(
            f"contains: found {len(asked['contains']):,} characters; the first {MAX_SEARCH_CHARS:,} are used"
        )
        asked["contains"] = asked["contains"][:MAX_SEARCH_CHARS]
    for name, (field_, allowed) in CHOICES.items():
        found = parameters.get(name, "")
        if found and found not in allowed:
            problems.append(f"{name}: found {found!r:.80}; allowed: {', '.join(allowed)}")
        elif found and found != ALL:
            asked[field_] = Order(found) if name == "order" else found
    for name, field_ in NUMBERS.items():
        if found := parameters.get(name, "").strip():
            number = _number(found)
            if number is None:
                problems.append(f"{name}: found {found!r:.80}; allowed: a number")
            asked[field_] = number
    page = parameters.get("page", "1")
    if not (page.isascii() and page.isdecimal() and 0 < int(page[:9]) == int(page[:20])):
        problems.append(f"page: found {page!r:.80}; allowed: a whole number from 1")
        page = "1"
    query = EpisodeQuery(**asked, offset=(int(page) - 1) * PAGE, limit=PAGE)
    if not query.split and parameters.get("split") != ALL and not _names_episodes(query):
        query = replace(query, without_split=UNASKED)
    return EpisodeFilter(query, tuple(problems))


def _names_episodes(query: EpisodeQuery) -> bool:
    """Somebody knows which: those of a file or an item are shown whatever their split."""
    return bool(query.file or query.task_id)


def _number(text: str) -> float | None:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Chip:
    """A list that people often want, as a link."""

    label: str
    url: str
    is_on: bool


CHIPS: Mapping[str, Mapping[str, str]] = {
    "Newest": {"order": "newest"},
    "Lowest reward": {"order": "lowest_reward"},
    "Largest change": {"order": "largest_change"},
    "Infra failures": {"outcome": "infra_failed"},
    "Longest": {"order": "longest"},
    "Slowest": {"order": "slowest"},
    "Most calls": {"order": "most_calls"},
    "Repeated tools": {"order": "repeated_tools"},
}


def chips(asked: EpisodeFilter) -> list[Chip]:
    """Each keeps the rest of the filter; infra failures are switched on and off."""
    found = []
    for label, change in CHIPS.items():
        (name, value), = change.items()  # fmt: skip
        is_on = str(asked.parameters().get(name, "newest" if name == "order" else "")) == value
        changed = {name: "" if is_on and name == "outcome" else value}
        found.append(Chip(label, asked.list_url(**changed), is_on))
    return found


def without(asked: EpisodeFilter) -> str:
    """The list of an address that asks for nothing but runs."""
    return EpisodeFilter(EpisodeQuery(runs=asked.query.runs, without_split=UNASKED, limit=PAGE)).list_url()
