"""How an endpoint is called: the keys that tools and graders share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from agentrl.addresses import host_problem
from agentrl.config.section import Count, Positive, PositiveInt, Problem, Section

SERVE = "{serve}"


class EndpointSection(Section):
    """Headers, waits, retries and how hard the endpoint may be pressed. A subclass adds the address, in `...url`."""

    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent with every call; ${NAME} is replaced from the environment."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30.0, description="Seconds for one attempt, from connecting to the last byte."
    )
    total_timeout_seconds: Positive = Field(
        default=300.0, description="Seconds for a call: waiting in the queue, all attempts and the pauses between them."
    )
    retries: Count = Field(default=3, description="Further attempts after a 5xx, a timeout or a lost connection.")
    max_concurrency: PositiveInt = Field(
        default=64,
        description="Most calls in flight at once; it begins at 16 and adapts to what the server copes with.",
    )
    max_requests_per_second: Positive | None = Field(
        default=None, description="Requests that leave in a second, evenly spaced; null is no limit."
    )
    breaker_failures: PositiveInt = Field(
        default=10, description="Failures in a row after which calls wait and the server is only probed."
    )
    breaker_seconds: Positive = Field(
        default=1.0, description="Seconds to the first probe; each probe that fails doubles them, up to 30."
    )
    allow_private: bool = Field(
        default=False,
        description="Whether addresses of private networks, and names that lead to them or to this machine, may be "
        "called; localhost and 127.0.0.1 always may.",
    )

    def problems(self) -> Iterator[Problem]:
        if self.total_timeout_seconds < self.timeout_seconds:
            yield Problem(
                ("total_timeout_seconds",),
                f"found {self.total_timeout_seconds:g}; allowed: at least timeout_seconds ({self.timeout_seconds:g}), "
                "the deadline of one attempt",
            )
        for key, url in self._urls:
            if problem := url_problem(url, allow_private=self.allow_private):
                yield Problem((key,), problem)

    @property
    def call_options(self) -> dict[str, Any]:
        """The arguments of `agentrl.endpoint.Endpoint` that are not its name, URL and headers."""
        return {
            "timeout_seconds": self.timeout_seconds,
            "total_timeout_seconds": self.total_timeout_seconds,
            "retries": self.retries,
            "max_concurrency": self.max_concurrency,
            "max_requests_per_second": self.max_requests_per_second,
            "breaker_failures": self.breaker_failures,
            "breaker_seconds": self.breaker_seconds,
            "allow_private": self.allow_private or any(SERVE in url for _, url in self._urls),
        }

    @property
    def _urls(self) -> list[tuple[str, str]]:
        return [(key, getattr(self, key)) for key in type(self).model_fields if key.endswith("url")]


def url_problem(url: str, *, allow_private: bool) -> str:
    """What is wrong with an address, as far as can be read from it; a name is looked up when it is called."""
    try:
        parsed = urlsplit(url)
    except ValueError:
        return "found a url that cannot be read; allowed: https://host/path"
    if parsed.username is not None:
        return "found a user name or password in the url; put credentials into headers"
    return host_problem(parsed.hostname or "", allow_private=allow_private)
