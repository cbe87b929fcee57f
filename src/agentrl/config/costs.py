"""`release.owners` and `release.costs`: who answers for a release, and what it costs beside its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from agentrl.config.section import NonEmpty, NonNegative, PathParts, Positive, Problem, Section

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Week = Annotated[str, Field(pattern=r"^[0-9]{4}-W(0[1-9]|[1-4][0-9]|5[0-3])$")]
"""ISO 8601, such as 2026-W46: Monday to Sunday, UTC."""
LINES = ("relabelling", "suite_upkeep", "incidents")
"""What a deployed policy costs beside its sessions: each is told as missing until it is given, 0 included."""


class OwnersConfig(Section):
    """Names or teams, as a brief prints them; incidents are owned by one of the three."""

    ml: str = Field(default="", description="Of the policy, its graders and its data.")
    platform: str = Field(default="", description="Of the gateway, the tools and the rollback.")
    product: str = Field(default="", description="Of what the agent is for, and of what people do beside it.")


class CostLineConfig(Section):
    """A week's cost in one of three ways: an amount, hours at a rate, or labels at a price."""

    amount: NonNegative | None = Field(default=None, description="A week, in `currency`; 0 says that it is free.")
    hours: NonNegative | None = Field(default=None, description="Of people, a week.")
    hourly_rate: NonNegative | None = Field(default=None, description="Of an hour, in `currency`.")
    labels: NonNegative | None = Field(default=None, description="Made or corrected, a week.")
    price_per_label: NonNegative | None = Field(default=None, description="Of a label, in `currency`.")

    def problems(self) -> Iterator[Problem]:
        given = {key for key, value in self if value is not None}
        if given not in ({"amount"}, {"hours", "hourly_rate"}, {"labels", "price_per_label"}, {"hourly_rate"}):
            found = ", ".join(sorted(given)) or "nothing"
            allowed = "amount; hours with hourly_rate; labels with price_per_label"
            yield Problem((), f"found {found}; allowed: {allowed}")


class WeekCostsConfig(Section):
    """The lines of one week."""

    relabelling: CostLineConfig | None = Field(default=None, description="Labels for graders and reward models.")
    suite_upkeep: CostLineConfig | None = Field(default=None, description="Keeping the evaluation suites true.")
    incidents: CostLineConfig | None = Field(
        default=None, description="People's hours; `hourly_rate` alone takes the hours from the incident records."
    )
    other: dict[NonEmpty, CostLineConfig] = Field(default={}, description="Further lines, by name.")

    def problems(self) -> Iterator[Problem]:
        lines: dict[PathParts, CostLineConfig | None] = {
            ("relabelling",): self.relabelling,
            ("suite_upkeep",): self.suite_upkeep,
            **{("other", name): line for name, line in self.other.items()},
        }
        for path, line in lines.items():
            if line is not None and line.hourly_rate is not None and line.hours is None:
                yield Problem(
                    path, "found hourly_rate alone; allowed: with hours; only incidents are recorded in hours"
                )


class CostsConfig(WeekCostsConfig):
    """What loaded cost is made of. A line that is missing makes it optimistic, which is printed; it is never 0."""

    currency: Currency = Field(default="USD", description="Of all amounts here, and of the sums; ISO 4217.")
    per_usd: Positive | None = Field(
        default=None, description="Units of `currency` for one US dollar: sessions are measured in dollars."
    )
    per_usd_source: str = Field(default="", description="Whose rate it is, and of which day; printed with the sums.")
    value_per_success: Positive | None = Field(
        default=None, description="What a completion is worth, such as what it cost before, in `currency`."
    )
    weeks: dict[Week, WeekCostsConfig] = Field(
        default={}, description="Weeks whose lines were others: a line given here replaces the usual one."
    )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.currency != "USD" and (self.per_usd is None or not self.per_usd_source):
            yield Problem(
                ("per_usd",),
                f"missing; with currency: {self.currency}, per_usd and per_usd_source say how dollars become it",
            )
        if self.currency == "USD" and self.per_usd not in (None, 1.0):
            yield Problem(("per_usd",), f"found {self.per_usd:g} with currency: USD; allowed: null")
