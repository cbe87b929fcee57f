"""`tracking:` who else is told of a run while it goes on: experiment trackers, an OpenTelemetry collector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from agentrl.config.section import ALLOW_LISTS, NonEmpty, Positive, PositiveInt, Problem, Section, repeated

TrackerName = Literal[
    "tensorboard", "wandb", "mlflow", "trackio", "comet_ml", "aim", "clearml", "dvclive", "swanlab"
]  # fmt: skip
SECRET_NAME = re.compile(
    r"authorization|api[-_]?key|(^|[-_])key$|token$|secret|passw|functions-key|cookie|credential", re.IGNORECASE
)
"""Names of headers, keys and variables whose values nobody is told."""


class OpenTelemetryConfig(Section):
    """Rollouts, and the sessions of a gateway's users, as traces, by the GenAI conventions, over OTLP/HTTP."""

    endpoint: Annotated[str, Field(pattern=r"^https?://.*")] = Field(
        description="Address of the collector, such as http://127.0.0.1:4318; /v1/traces and /v1/metrics are added."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent with every export; ${NAME} is replaced from the environment."
    )
    metrics: bool = Field(default=True, description="Also send histograms of durations and tokens.")
    content: bool = Field(
        default=False,
        description="Also send what was said: messages, tool arguments, tool results and graders' words. Without it "
        "their digests are sent.",
    )
    content_max_chars: PositiveInt = Field(
        default=8192, description="content: characters of one text; the rest is cut."
    )
    environment: NonEmpty | None = Field(
        default=None, description="Sent as the deployment environment, such as staging; null is not sent."
    )
    timeout_seconds: Positive = Field(default=10.0, description="Seconds for one export, its retries included.")

    def problems(self) -> Iterator[Problem]:
        if problem := _address_problem(self.endpoint):
            yield Problem(("endpoint",), problem)


class TrackingConfig(Section):
    """None of them can slow, stop or outlive a run: each works in a process of its own, within these seconds."""

    trackers: Annotated[tuple[TrackerName, ...], ALLOW_LISTS] = Field(
        default=(), description="Who is sent the metrics of every step; each needs its own package."
    )
    project: NonEmpty | None = Field(
        default=None, description="Project, or experiment, at the trackers; null is the config's `name`."
    )
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="By tracker: further arguments of its start, such as `wandb: {entity: my-team}`; ${NAME} is "
        "replaced from the environment.",
    )
    hosted_names: bool = Field(
        default=False,
        description="Also send the metrics by the names of hosted fine-tuning, such as train_reward_mean.",
    )
    opentelemetry: OpenTelemetryConfig | None = Field(
        default=None, description="Where rollouts and users' sessions are sent as traces; null is nowhere."
    )
    start_seconds: Positive = Field(
        default=120.0, description="Seconds for a tracker to start; a slower one is given up."
    )
    log_seconds: Positive = Field(default=30.0, description="Seconds for one step's metrics, or one batch of rollouts.")
    finish_seconds: Positive = Field(
        default=15.0, description="Seconds that the end of a run waits for all of them together to send the rest."
    )

    def problems(self) -> Iterator[Problem]:
        for index in repeated(self.trackers):
            yield Problem(("trackers", index), f"found '{self.trackers[index]}' a second time; allowed: once")
        if self.opentelemetry and 2 * self.opentelemetry.timeout_seconds >= self.log_seconds:
            found = f"found {self.opentelemetry.timeout_seconds:g}; allowed: less than half of tracking.log_seconds"
            why = "a batch may take an export of spans and one of histograms"
            yield Problem(("opentelemetry", "timeout_seconds"), f"{found} ({self.log_seconds:g}): {why}")
        for name, options in self.options.items():
            if name not in self.trackers:
                known = ", ".join(self.trackers) or "none is listed"
                yield Problem(("options", name), f"no such tracker under tracking.trackers; allowed: {known}")
            for path in written_secrets(options):
                text = 'a secret is written out (not shown); allowed: the name of its variable, such as "${MY_KEY}"'
                yield Problem(("options", name, *path), text)


def written_secrets(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of values that stand under the name of a secret and name no environment variable."""
    if isinstance(value, dict):
        for key, each in value.items():
            is_written = isinstance(each, str) and each and "${" not in each
            if SECRET_NAME.search(str(key)) and is_written:
                yield (*path, str(key))
            else:
                yield from written_secrets(each, (*path, str(key)))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from written_secrets(each, (*path, index))


def _address_problem(url: str) -> str:
    """What is wrong with a collector's address: collectors stand on private networks, so any host may be one."""
    try:
        parsed = urlsplit(url)
        secret = [key for key, _ in parse_qsl(parsed.query) if SECRET_NAME.search(key)]
        if not parsed.hostname or (parsed.port is not None and parsed.port == 0):
            return f"found {url!r}; allowed: http://host:port"
    except ValueError:
        return "found an address that cannot be read; allowed: http://host:port"
    if parsed.username is not None or secret:
        return "found a secret in the address (not shown); put it into headers, as ${NAME}"
    return ""
