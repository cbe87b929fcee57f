"""`type: tool_use`: were the right tools called, in order, without repeats, within the budget?"""

from __future__ import annotations

import time
from collections import Counter
from itertools import groupby

from agentrl.config.graders import ToolUseConfig
from agentrl.grading.calls import Call, Conduct, conduct_of
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.submission import Submission
from agentrl.types import Grade

Verdict = tuple[float, str]
"""Credit from 0 to 1, and what was found where it is less than 1."""
RULES = 1
"""Raised where the same declaration comes to another score: it is part of the version."""
NEEDS_RESULTS = ("errors",)
"""Rules about what tools answered, which a sample without its episode does not tell."""


class ToolUseGrader:
    """Checks one rule after the other; an episode that calls nothing breaks none but `required`."""

    def __init__(self, config: ToolUseConfig) -> None:
        self._config = config
        self.version = content_version(config, rules=RULES)

    def __repr__(self) -> str:
        return f"ToolUseGrader({', '.join(self._config.rules)})"

    async def aclose(self) -> None:
        """Nothing is held."""

    async def grade(self, submission: Submission) -> Grade:
        started, conduct = time.perf_counter(), conduct_of(submission)
        is_episode = submission.rollout is not None
        rules = [rule for rule in self._config.rules if is_episode or rule not in NEEDS_RESULTS]
        if not rules:
            return ungraded("tool_use: without the episode nothing is known of what tools answered", "other_error")
        verdicts = {rule: getattr(self, f"_{rule}")(conduct) for rule in rules}
        weights = {rule: self._config.weights.get(rule, 1.0) for rule in rules}
        score = sum(weights[rule] * verdicts[rule][0] for rule in rules) / sum(weights.values())
        notes = [f"{rule}: {note}" for rule, (_, note) in verdicts.items() if note]
        notes += [f"{rule}: not known without the episode" for rule in self._config.rules if rule not in rules]
        return Grade(
            min(1.0, max(0.0, score)),
            seconds=time.perf_counter() - started,
            sub_scores={rule: credit for rule, (credit, _) in verdicts.items()},
            explanation="; ".join(notes) or f"{len(conduct.calls)} calls, no rule broken",
        )

    def _required(self, conduct: Conduct) -> Verdict:
        answered = {call.name for call in conduct.calls if not call.is_error}
        missing = [name for name in self._config.required if name not in answered]
        credit = 1 - len(missing) / len(self._config.required)
        return credit, f"no answered call of {', '.join(missing)}" if missing else ""

    def _before(self, conduct: Conduct) -> Verdict:
        pairs = self._config.before
        broken = [f"{then} before {first}" for first, then in pairs if _is_too_early(first, then, conduct.calls)]
        return 1 - len(broken) / len(pairs), ", ".join(broken)

    def _identical(self, conduct: Conduct) -> Verdict:
        counts = Counter(call.identity for call in conduct.calls)
        beyond = max(0, len(conduct.calls) - len(counts) - (self._config.max_identical or 0))
        if not beyond:
            return 1.0, ""
        (name, arguments), times = counts.most_common(1)[0]
        example = f"{name}({arguments:.60}) {times} times"
        return 1 - beyond / len(conduct.calls), f"{beyond} repeated calls, such as {example}"

    def _in_a_row(self, conduct: Conduct) -> Verdict:
        rows = [(len(list(row)), name) for name, row in groupby(call.name for call in conduct.calls)]
        longest, name = max(rows, default=(0, ""))
        allowed = self._config.max_in_a_row or 1
        return (1.0, "") if longest <= allowed else (allowed / longest, f"{name} {longest} times in a row")

    def _budget(self, conduct: Conduct) -> Verdict:
        allowed = self._config.max_calls or 1
        beyond = max(0, len(conduct.calls) - allowed)
        return max(0.0, 1 - beyond / allowed), f"{len(conduct.calls)} calls of {allowed} allowed" if beyond else ""

    def _errors(self, conduct: Conduct) -> Verdict:
        failed = [call.name for call in conduct.calls if call.is_error]
        n_calls, allowed = len(conduct.calls), self._config.max_error_fraction or 0.0
        share = len(failed) / n_calls if n_calls else 0.0
        if share <= allowed:
            return 1.0, ""
        return (1 - share) / (1 - allowed), f"{len(failed)} of {n_calls} calls failed: {', '.join(failed[:5])}"

    def _malformed(self, conduct: Conduct) -> Verdict:
        beyond = max(0, conduct.malformed - (self._config.max_malformed or 0))
        if not beyond:
            return 1.0, ""
        return 1 - beyond / conduct.n_attempted, f"{conduct.malformed} calls could not be read"


def _is_too_early(first: str, then: str, calls: tuple[Call, ...]) -> bool:
    """Whether `then` was called before `first` had answered."""
    for call in calls:
        if call.name == first and not call.is_error:
            return False
        if call.name == then:
            return True
    return False
