"""`tools:` the endpoints that the policy may call, and servers to start for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.section import (
    ALLOW_LISTS,
    Count,
    NonEmpty,
    Positive,
    PositiveInt,
    Problem,
    Section,
    did_you_mean,
    dotted,
    repeated,
)

SERVE = "{serve}"
Url = Annotated[str, Field(pattern=r"^(https?://|\{serve\}).*")]
"""Absolute http(s) address; `{serve}` stands for the base address that the first served process printed."""
COMMAND_PLACEHOLDERS = ("python", "data.path")
PLACEHOLDER = re.compile(r"\{([A-Za-z_.]+)\}")


class ServeConfig(Section):
    """A server that lives as long as the run; it prints `listening on http://127.0.0.1:PORT` when it is ready."""

    command: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS, Field(min_length=1)] = Field(
        description="Program and arguments; {python} is the running interpreter, {data.path} the config's data.path."
    )
    ready_timeout_seconds: Positive = Field(default=60.0, description="Seconds to wait for the `listening on` line.")
    env: dict[str, str] = Field(default_factory=dict, description="Variables added to the server's environment.")

    def problems(self) -> Iterator[Problem]:
        for index, word in enumerate(self.command):
            for name in PLACEHOLDER.findall(word):
                if name not in COMMAND_PLACEHOLDERS:
                    known = " or ".join("{" + known + "}" for known in COMMAND_PLACEHOLDERS)
                    hint = did_you_mean(name, COMMAND_PLACEHOLDERS)
                    yield Problem(("command", index), f"unknown placeholder {{{name}}}; allowed: {known}{hint}")


class ToolEndpointConfig(Section):
    """One tool over HTTP, in the wire format of Agent RFT."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        description="The tool's name as the policy writes it."
    )
    server_url: Url = Field(description="Where calls are POSTed to.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent with every call; ${NAME} is replaced from the environment."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30.0, description="Seconds for one attempt, from connecting to the last byte."
    )
    retries: Count = Field(default=3, description="Further attempts after a 5xx, a timeout or a lost connection.")
    max_concurrency: PositiveInt = Field(default=64, description="Calls in flight at once; more wait.")
    item_fields: Literal["all", "none"] | Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(
        default="all", description="Which of the task's item keys the tool is sent: a tool may leak a reference answer."
    )


class ToolsConfig(Section):
    """Servers are started in order, before the first check of the endpoints."""

    serve: Annotated[tuple[ServeConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Servers to start with the run and stop at its end."
    )
    endpoints: Annotated[tuple[ToolEndpointConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Tools that the policy may call."
    )

    def problems(self) -> Iterator[Problem]:
        for index in repeated(endpoint.name for endpoint in self.endpoints):
            path = ("endpoints", index, "name")
            yield Problem(path, f"found '{self.endpoints[index].name}' a second time; allowed: one endpoint a name")
        if not self.serve:
            for index, endpoint in enumerate(self.endpoints):
                if SERVE in endpoint.server_url:
                    yield Problem(("endpoints", index, "server_url"), served_by_nobody(("tools",)))


def served_by_nobody(section: tuple[str, ...]) -> str:
    """Why an address with {serve} means nothing here."""
    return f"found {SERVE}, but {dotted(section)}.serve starts no server; allowed: http:// or https://"
