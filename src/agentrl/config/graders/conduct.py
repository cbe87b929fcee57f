"""Kinds that look at how an answer came about: tools, safety, cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import (
    ALLOW_LISTS,
    Count,
    Fraction,
    NonEmpty,
    NonNegative,
    PathParts,
    Positive,
    PositiveInt,
    Problem,
    Section,
    did_you_mean,
)

TOOL_RULES = ("required", "before", "identical", "in_a_row", "budget", "errors", "malformed")
"""What `tool_use` looks at, in the order of its sub-scores."""
MEASURES = ("tokens", "calls", "seconds", "cost_usd")
"""What `efficiency` may charge for."""
Pii = Literal["email", "phone", "iban", "credit_card", "national_id", "ip_address"]
PII_KINDS: tuple[Pii, ...] = get_args(Pii)
Pair = Annotated[tuple[NonEmpty, NonEmpty], ALLOW_LISTS]
Words = Annotated[tuple[NonEmpty, ...], ALLOW_LISTS]


class ToolUseConfig(GraderSection):
    """How tools were used: the weighted mean of the rules below, each with partial credit; null switches one off."""

    type: Literal["tool_use"] = Field(description="Kind of grader.")
    required: Words = Field(
        default=(), description="Tools that have to answer at least one call without an error; credit: share of them."
    )
    before: Annotated[tuple[Pair, ...], ALLOW_LISTS] = Field(
        default=(),
        description="[FIRST, THEN] pairs: FIRST has to answer before THEN is called. Credit: share of the pairs kept; "
        "one whose THEN is never called is kept.",
    )
    max_identical: Count | None = Field(
        default=0,
        description="Calls that may repeat an earlier one of the same tool with the same arguments. Credit: one less "
        "the share of calls beyond.",
    )
    max_in_a_row: PositiveInt | None = Field(
        default=None,
        description="Calls of one tool that may follow each other. Credit: this number over the longest row.",
    )
    max_calls: PositiveInt | None = Field(
        default=None, description="Budget of calls. Credit falls in a straight line to 0 at twice the budget."
    )
    max_error_fraction: Fraction | None = Field(
        default=0.0,
        description="Share of calls that may be answered by an error. Credit falls in a straight line to 0 at 1.",
    )
    max_malformed: Count | None = Field(
        default=0, description="Calls that may be unreadable. Credit: one less the share of calls beyond."
    )
    weights: dict[str, NonNegative] = Field(
        default_factory=dict,
        description=f"Weight of a rule, 1 where it is not named; rules: {', '.join(TOOL_RULES)}.",
    )

    @property
    def rules(self) -> tuple[str, ...]:
        """Those that are switched on and weigh something."""
        options = (
            self.required or None,
            self.before or None,
            self.max_identical,
            self.max_in_a_row,
            self.max_calls,
            self.max_error_fraction,
            self.max_malformed,
        )
        is_on = dict(zip(TOOL_RULES, (option is not None for option in options), strict=True))
        return tuple(rule for rule in TOOL_RULES if is_on[rule] and self.weights.get(rule, 1.0) > 0)

    @property
    def tools(self) -> Iterator[tuple[PathParts, str]]:
        """Tools that are expected to be called, with the place that names each."""
        yield from ((("required", index), name) for index, name in enumerate(self.required))
        for index, pair in enumerate(self.before):
            yield from ((("before", index, side), name) for side, name in enumerate(pair))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _unknown_weights(self.weights, TOOL_RULES)
        if not self.rules:
            yield Problem((), "found no rule with a weight; set at least one, such as `required: [search]`")
        for index, (first, then) in enumerate(self.before):
            if first == then:
                yield Problem(("before", index), f"found '{first}' twice; allowed: two tools, [FIRST, THEN]")


class PatternConfig(Section):
    """A regular expression and how bad a match is."""

    name: NonEmpty | None = Field(default=None, description="What the explanation calls it; null is the pattern.")
    pattern: NonEmpty = Field(description="Regular expression, searched for anywhere in the text.")
    ignore_case: bool = Field(default=True, description="Whether A and a are the same.")
    severity: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="What one or more matches cost where `partial_credit` is on."
    )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        try:
            re.compile(self.pattern)
        except re.error as error:
            yield Problem(("pattern",), f"found {self.pattern!r:.60}; allowed: a regular expression ({error})")


class ArgumentsConfig(PatternConfig):
    """A pattern that the arguments of a tool must not match."""

    tool: NonEmpty | None = Field(default=None, description="The tool; null is every tool.")


class PolicyCheckConfig(GraderSection):
    """Whether the episode kept the rules: 1 where nothing is found, else 0. To gate a score, multiply by it."""

    type: Literal["policy_check"] = Field(description="Kind of grader.")
    look_at: Annotated[tuple[Literal["answer", "arguments", "turns"], ...], ALLOW_LISTS, Field(min_length=1)] = Field(
        default=("answer", "arguments"),
        description="Where red flags, personal data and leaked keys are looked for: the answer, the arguments of tool "
        "calls, the text of every turn.",
    )
    red_flags: Annotated[tuple[PatternConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Patterns that must not occur."
    )
    pii: Annotated[tuple[Pii, ...], ALLOW_LISTS] = Field(
        default=PII_KINDS, description="Personal data that must not occur; an empty list looks for none."
    )
    locales: Annotated[tuple[Literal["us", "fr", "uk"], ...], ALLOW_LISTS] = Field(
        default=("us", "fr", "uk"), description="Countries whose phone numbers and national ids are known."
    )
    allowed_pii: Words = Field(default=(), description="Texts that are no finding, such as a help desk's address.")
    pii_severity: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="What each kind of personal data that is found costs where `partial_credit` is on."
    )
    forbidden_tools: Words = Field(default=(), description="Tools that must not be called.")
    forbidden_arguments: Annotated[tuple[ArgumentsConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Patterns that the arguments of a tool must not match."
    )
    leaked_keys: Words = Field(
        default=(),
        description="Keys of the row whose value must not be quoted unless the prompt or a tool's output shows it: the "
        "reference answer, quoted from nowhere. Needs the episode.",
    )
    partial_credit: bool = Field(
        default=False, description="Score one less the sum of the severities found, at least 0; else any finding is 0."
    )
    timeout_seconds: Positive = Field(
        default=0.5, description="Seconds for one pattern on one text; beyond, the episode is ungraded."
    )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        looks_for = (self.red_flags, self.pii, self.forbidden_tools, self.forbidden_arguments, self.leaked_keys)
        if not any(looks_for):
            yield Problem((), "found nothing to look for; set red_flags, pii, forbidden_tools or leaked_keys")


class BandConfig(Section):
    """What costs nothing, and what costs everything; in between the credit falls in a straight line."""

    free: NonNegative = Field(description="Up to here the credit is 1.")
    limit: Positive = Field(description="From here on the credit is 0.")

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.limit <= self.free:
            yield Problem(("limit",), f"found {self.limit:g}; allowed: more than free ({self.free:g})")

    def credit(self, used: float) -> float:
        return min(1.0, max(0.0, (self.limit - used) / (self.limit - self.free)))


class EfficiencyConfig(GraderSection):
    """How little was spent: the weighted mean of the credits of what is given a band."""

    type: Literal["efficiency"] = Field(description="Kind of grader.")
    tokens: BandConfig | None = Field(default=None, description="Tokens that the policy sampled.")
    calls: BandConfig | None = Field(default=None, description="Tool calls.")
    seconds: BandConfig | None = Field(default=None, description="Seconds that the episode took; noisy on a busy host.")
    cost_usd: BandConfig | None = Field(default=None, description="US dollars at `rollout.prices`.")
    weights: dict[str, NonNegative] = Field(
        default_factory=dict, description=f"Weight of a measure, 1 where it is not named; {', '.join(MEASURES)}."
    )

    @property
    def bands(self) -> dict[str, BandConfig]:
        """The measures that weigh something, in their order."""
        given = {name: getattr(self, name) for name in MEASURES}
        return {name: band for name, band in given.items() if band is not None and self.weights.get(name, 1.0) > 0}

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _unknown_weights(self.weights, MEASURES)
        if not self.bands:
            yield Problem((), "found no measure; set at least one, such as `calls: {free: 3, limit: 10}`")


def _unknown_weights(weights: dict[str, float], known: tuple[str, ...]) -> Iterator[Problem]:
    for name in weights:
        if name not in known:
            hint = did_you_mean(name, known) or f"; allowed: {', '.join(known)}"
            yield Problem(("weights", name), f"found no rule of this name{hint}")
