"""`type: endpoint`: the team's own grader server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from agentrl.config.endpoint import EndpointSection
from agentrl.config.graders.base import GraderSection
from agentrl.config.section import Positive, Problem
from agentrl.config.tools import Url


class EndpointConfig(EndpointSection, GraderSection):
    """An endpoint that answers `{"score": number}`; any failure leaves the rollout ungraded, never scored 0."""

    not_content: ClassVar[frozenset[str]] = GraderSection.not_content | {*EndpointSection.model_fields, "rate_limit"}

    type: Literal["endpoint"] = Field(default="endpoint", description="Kind of grader.")
    url: Url = Field(description="Where answers are POSTed to.")
    rate_limit: Positive | None = Field(
        default=None, description="Requests a second, as hosted jobs spell `max_requests_per_second`."
    )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.rate_limit is not None and self.max_requests_per_second is not None:
            yield Problem(("rate_limit",), "found beside max_requests_per_second, which is the same; keep one")

    @property
    def call_options(self) -> dict[str, Any]:
        return {**super().call_options, "max_requests_per_second": self.max_requests_per_second or self.rate_limit}
