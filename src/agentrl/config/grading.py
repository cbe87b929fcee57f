"""`grading:` who scores an answer. A new kind of grader is one more class in the union of `GradingConfig.type`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from agentrl.config.endpoint import EndpointSection
from agentrl.config.section import NonEmpty, Positive, Problem, Section
from agentrl.config.tools import Url


class GraderAddress(Section):
    """Which grader, and where."""

    name: NonEmpty = Field(description="The grader's name: what `workflow.reward_model` refers to.")
    type: Literal["endpoint"] = Field(default="endpoint", description="Kind of grader.")
    url: Url = Field(description="Where answers are POSTed to.")


class GradingConfig(EndpointSection, GraderAddress):
    """An endpoint that answers `{"score": number}`; any failure leaves the rollout ungraded, never scored 0."""

    pass_threshold: float = Field(
        default=0.75, description="A rollout with at least this score counts as a success; the reward stays the score."
    )
    max_score: Positive = Field(default=1.0, description="The best score the grader gives.")

    out_of_range: Literal["error", "clamp"] = Field(
        default="error",
        description="A score below 0 or above max_score: `error` leaves the rollout ungraded, `clamp` takes the limit.",
    )
    turn_scores: bool = Field(
        default=False,
        description="The grader is sent `sample.turns` as well, and answers `turn_scores`, a number from 0 to 1 for "
        "each of them; without them the rollout is ungraded.",
    )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.pass_threshold > self.max_score:
            yield Problem(
                ("pass_threshold",),
                f"found {self.pass_threshold:g}; allowed: at most max_score ({self.max_score:g}), "
                "or nothing ever counts as a success",
            )
