"""`gateway:` the OpenAI-compatible proxy that users talk to, in front of the baseline and a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from agentrl.config.endpoint import url_problem
from agentrl.config.rollout import PricesConfig
from agentrl.config.section import ALLOW_LISTS, Count, NonEmpty, Positive, PositiveInt, Problem, Section, repeated

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class UpstreamConfig(Section):
    """A server that answers for one policy: vLLM, or any other that speaks OpenAI's protocol."""

    url: NonEmpty = Field(description="Up to and including /v1, such as http://127.0.0.1:8000/v1.")
    model: NonEmpty = Field(description="What the server calls the policy; clients may say anything.")
    key_env: EnvName | None = Field(default=None, description="Environment variable with the server's API key.")
    bundle: str = Field(default="", description="Id of the bundle that it serves; a release of another is refused.")
    prices: PricesConfig | None = Field(default=None, description="What its tokens cost; null: cost is not measured.")
    timeout_seconds: Positive = Field(default=600.0, description="Seconds for one answer, to its last byte.")
    first_byte_seconds: Positive = Field(
        default=60.0, description="Seconds until an answer begins; a candidate that takes longer falls back."
    )
    max_concurrency: PositiveInt = Field(default=512, description="Requests in flight at once; more are answered 503.")
    stream_usage: bool = Field(
        default=True,
        description="Ask for the token counts of streams; clients that did not ask are not shown them. False: the "
        "server knows no stream_options, and what a streamed session costs is not known.",
    )
    allow_private: bool = Field(
        default=False, description="Whether it may be in a private network; localhost and 127.0.0.1 always may."
    )

    def problems(self) -> Iterator[Problem]:
        if problem := url_problem(self.url, allow_private=self.allow_private):
            yield Problem(("url",), problem)


class ApiKeyConfig(Section):
    """Who may ask."""

    name: Name = Field(description="Names the client in records; sessions of one client are closed to others.")
    env: EnvName = Field(description="Environment variable with the key.")


class ShadowConfig(Section):
    """Copies of users' requests for a candidate that nobody sees the answers of."""

    queue: PositiveInt = Field(default=256, description="Copies that wait; a full queue drops and counts.")
    concurrency: PositiveInt = Field(default=8, description="Copies in flight at once.")
    max_requests: PositiveInt = Field(default=20, description="Answers of the candidate in one turn of a user.")
    timeout_seconds: Positive = Field(default=120.0, description="Seconds for one turn; then the candidate has failed.")
    grade: bool = Field(
        default=False, description="Have the grader of `grading` score both answers: quality in pairs. Else null."
    )


class GatewayConfig(Section):
    """Users keep their OpenAI client: they change its base_url, and send a session id."""

    host: NonEmpty = Field(default="127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8700, description="Of clients; 0 takes a free one.")
    admin_host: NonEmpty = Field(default="127.0.0.1", description="Address of the admin endpoints.")
    admin_port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8701, description="Of the admin endpoints.")
    admin_key_env: EnvName | None = Field(
        default=None, description="Environment variable with the admin key; null: no admin endpoint answers."
    )
    upstreams: dict[Name, UpstreamConfig] = Field(min_length=1, description="Servers by name.")
    general: Name = Field(description="The upstream that serves all users until a release is promoted.")
    api_keys: Annotated[tuple[ApiKeyConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Clients; none: whoever reaches the address, which then must be this machine."
    )
    allow_public_without_key: bool = Field(
        default=False, description="Listen on a public address without API keys, behind a proxy that asks for them."
    )
    session_header: NonEmpty = Field(default="X-Session-Id", description="Of the session; issued where it is missing.")
    user_header: NonEmpty = Field(default="X-User-Id", description="Sessions of one user are not independent.")
    intent_header: NonEmpty = Field(default="X-Intent", description="What the session is about, for breakdowns.")
    session_idle_seconds: Positive = Field(
        default=900.0, description="Seconds without a request after which a session is closed."
    )
    feedback_window_seconds: Positive = Field(
        default=86400.0, description="Seconds after a session's end in which people may override it."
    )
    poll_seconds: Positive = Field(default=0.2, description="Seconds between looks at the routing.")
    drain_seconds: Positive = Field(
        default=55.0,
        description="Seconds for a candidate's answers under way after a rollback; then they are cut. Routing comes "
        "before it and closing after: all of it takes less than a minute.",
    )
    max_request_bytes: PositiveInt = Field(default=4_000_000, description="Largest request.")
    max_concurrent: PositiveInt = Field(default=1024, description="Requests at once; more are answered 503.")
    max_requests_per_second: Positive | None = Field(
        default=None, description="Of each client, evenly; more are answered 429. Null is no limit."
    )
    keep_content: bool = Field(
        default=False, description="Keep redacted messages with the session's record; else their digests alone."
    )
    policy_kl_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Share of the candidate's sessions that the reference scores, for policy_kl_drift.",
    )
    policy_kl_reference: Name | None = Field(
        default=None,
        description="The upstream that serves the frozen reference. Null: whoever serves all users. Like the "
        "candidate's, it has to be a vLLM.",
    )
    shadow: ShadowConfig = Field(default=ShadowConfig(), description="Copies for a candidate in shadow.")
    retries: Count = Field(default=0, description="Further attempts at the baseline before the first byte.")

    def problems(self) -> Iterator[Problem]:
        if self.general not in self.upstreams:
            yield Problem(("general",), f"found '{self.general}'; allowed: {', '.join(self.upstreams)}")
        if self.policy_kl_reference is not None and self.policy_kl_reference not in self.upstreams:
            known = ", ".join(self.upstreams)
            yield Problem(("policy_kl_reference",), f"found '{self.policy_kl_reference}'; allowed: {known}")
        for index in repeated(key.name for key in self.api_keys):
            yield Problem(("api_keys", index), f"found '{self.api_keys[index].name}' a second time; allowed: once")
        for index in repeated(key.env for key in self.api_keys):
            yield Problem(("api_keys", index, "env"), "found a variable that is another client's; allowed: its own")
