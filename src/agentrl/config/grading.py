"""`grading:` who scores an answer. A new kind of grader is one more class in the union of `GradingConfig.type`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.section import Count, NonEmpty, Positive, PositiveInt, Problem, Section
from agentrl.config.tools import Url


class GradingConfig(Section):
    """An endpoint that answers `{"score": number}`; any failure leaves the rollout ungraded, never scored 0."""

    name: NonEmpty = Field(description="The grader's name: what `workflow.reward_model` refers to.")
    type: Literal["endpoint"] = Field(default="endpoint", description="Kind of grader.")
    url: Url = Field(description="Where answers are POSTed to.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent with every call; ${NAME} is replaced from the environment."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30.0, description="Seconds for one attempt, from connecting to the last byte."
    )
    retries: Count = Field(default=3, description="Further attempts after a 5xx, a timeout or a lost connection.")
    max_concurrency: PositiveInt = Field(default=64, description="Calls in flight at once; more wait.")
    pass_threshold: float = Field(
        default=0.75, description="A rollout with at least this score counts as a success; the reward stays the score."
    )
    max_score: Positive = Field(default=1.0, description="The best score the grader gives.")

    def problems(self) -> Iterator[Problem]:
        if self.pass_threshold > self.max_score:
            yield Problem(
                ("pass_threshold",),
                f"found {self.pass_threshold:g}; allowed: at most max_score ({self.max_score:g}), "
                "or nothing ever counts as a success",
            )
