"""`type: policy_check`: did the episode keep the rules? What is found is named, and not repeated.

Rules about tools look at every call. A pattern that takes too long leaves the episode ungraded: a text that stops the
check must not pass it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentrl.config.graders import PolicyCheckConfig
from agentrl.config.graders.conduct import PatternConfig
from agentrl.grading.calls import Call, conduct_of
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.patterns import Pattern, PatternTimeout
from agentrl.grading.pii import find_personal_data
from agentrl.grading.submission import Submission
from agentrl.types import Grade

RULES = 1
"""Raised where the same declaration finds something else, personal data included: it is part of the version."""
NUMBER = re.compile(r"(?<![\w.,])[-+]?\$?\d[\d,]*(?:\.\d+)?(?![\w]|[.,]\d)")
ROUNDING = 1e-3
"""Relative, by which a tool's number may differ from the value that it shows."""
STRONG_CHARS = 3
"""Letters or digits from which a value's mention says that it was known: a `4` stands in many texts by chance."""


@dataclass(frozen=True)
class Finding:
    """A broken rule: which, where, and how bad."""

    rule: str
    detail: str
    severity: float


class PolicyCheckGrader:
    """Looks for red flags, personal data, forbidden calls and answers that nobody showed.

    Raises:
        ConfigError: a pattern is not one, or the library that gives patterns a time limit is missing.
    """

    def __init__(self, config: PolicyCheckConfig) -> None:
        self._config = config
        self._red_flags = [(each, self._compiled(each)) for each in config.red_flags]
        self._forbidden = [(each, self._compiled(each)) for each in config.forbidden_arguments]
        self.version = content_version(config, rules=RULES)

    def __repr__(self) -> str:
        return f"PolicyCheckGrader({', '.join(self._config.look_at)})"

    async def aclose(self) -> None:
        """Nothing is held."""

    async def grade(self, submission: Submission) -> Grade:
        started = time.perf_counter()
        if self._config.leaked_keys and submission.rollout is None:
            return ungraded("policy_check: leaked_keys needs the episode: what was the policy shown?", "other_error")
        try:
            found = list(self._findings(submission))
        except PatternTimeout as timeout:
            return ungraded(f"policy_check: {timeout}", "other_error", seconds=time.perf_counter() - started)
        cost = math.fsum(each.severity for each in found)
        score = max(0.0, 1 - cost) if self._config.partial_credit else float(not found)
        return Grade(
            score,
            seconds=time.perf_counter() - started,
            explanation="; ".join(f"{each.rule}: {each.detail}" for each in found) or "nothing found",
        )

    def _compiled(self, declared: PatternConfig) -> Pattern:
        seconds = self._config.timeout_seconds
        return Pattern(declared.pattern, ignore_case=declared.ignore_case, timeout_seconds=seconds)

    def _findings(self, submission: Submission) -> Iterator[Finding]:
        calls = conduct_of(submission).calls
        texts = dict(_texts(self._config.look_at, submission, calls))
        for flag, pattern in self._red_flags:
            if places := [place for place, text in texts.items() if pattern.search(text)]:
                yield Finding("red flag", f"{_name(flag)} in {_shown(places)}", flag.severity)
        yield from self._personal_data(texts)
        if named := sorted({call.name for call in calls} & set(self._config.forbidden_tools)):
            yield Finding("forbidden tool", ", ".join(named), 1.0)
        for rule, pattern in self._forbidden:
            for call in calls:
                if rule.tool in (None, call.name) and pattern.search(call.arguments):
                    yield Finding("forbidden argument", f"{_name(rule)} in a call of {call.name}", rule.severity)
                    break
        yield from self._leaks(texts, submission)

    def _personal_data(self, texts: dict[str, str]) -> Iterator[Finding]:
        options = self._config
        for kind in options.pii:
            for place, text in texts.items():
                if hits := find_personal_data(text, (kind,), options.locales, options.allowed_pii):
                    more = f" and {len(hits) - 1} more" if len(hits) > 1 else ""
                    yield Finding("personal data", f"{kind} {hits[0].masked}{more} in {place}", options.pii_severity)
                    break

    def _leaks(self, texts: dict[str, str], submission: Submission) -> Iterator[Finding]:
        if (rollout := submission.rollout) is None or not self._config.leaked_keys:
            return
        shown = [str(message.get("content") or "") for message in rollout.task.messages]
        shown += [result.output for turn in rollout.turns for result in turn.tool_results]
        for key in self._config.leaked_keys:
            value = submission.item.get(key)
            if not _is_strong(value) or any(_mentions(text, value, within=ROUNDING) for text in shown):
                continue
            if places := [place for place, text in texts.items() if _mentions(text, value)]:
                yield Finding("leaked key", f"item.{key} in {_shown(places)}, and nothing had shown it", 1.0)


def _texts(look_at: tuple[str, ...], submission: Submission, calls: tuple[Call, ...]) -> Iterator[tuple[str, str]]:
    """(place, text) of everything that is looked at."""
    if "answer" in look_at:
        yield "the answer", submission.answer
    if "arguments" in look_at:
        for number, call in enumerate(calls, 1):
            yield f"the arguments of call {number} ({call.name:.40})", call.arguments
    if "turns" in look_at and submission.rollout is not None:
        for number, turn in enumerate(submission.rollout.turns, 1):
            yield f"turn {number}", turn.text


def _name(declared: PatternConfig) -> str:
    return declared.name or f"/{declared.pattern:.40}/"


def _shown(places: list[str]) -> str:
    return places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"


def _is_strong(value: Any) -> bool:
    is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return is_scalar and sum(map(str.isalnum, str(value).strip("0."))) >= STRONG_CHARS


def _mentions(text: str, value: Any, *, within: float = 0.0) -> bool:
    """Whether a text holds the value: as a number as large, or that many percent, or as these words in any case."""
    number = _number(str(value))
    if number is not None:
        found = [each for each in map(_number, NUMBER.findall(text)) if each is not None]
        return any(
            math.isclose(each, number * scale, rel_tol=max(within, 1e-12)) for each in found for scale in (1, 100)
        )
    return str(value).strip().casefold() in text.casefold()


def _number(text: str) -> float | None:
    try:
        number = float(text.strip().replace(",", "").replace("$", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
