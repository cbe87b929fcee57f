"""`tools:` what the policy may call (endpoints, MCP servers, Python functions), and servers to start for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from agentrl.config.endpoint import SERVE, EndpointSection, url_problem
from agentrl.config.section import (
    ALLOW_LISTS,
    NonEmpty,
    Positive,
    PositiveInt,
    Problem,
    Section,
    did_you_mean,
    dotted,
    repeated,
)
from agentrl.config.tool_policy import ToolPolicyConfig

Url = Annotated[str, Field(pattern=r"^(https?://|\{serve\}).*")]
"""Absolute http(s) address; `{serve}` stands for the base address that the first served process printed."""
COMMAND_PLACEHOLDERS = ("python", "data.path")
PLACEHOLDER = re.compile(r"\{([A-Za-z_.]+)\}")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


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


class ToolAddress(Section):
    """Which tool, and where."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        description="The tool's name as the policy writes it."
    )
    server_url: Url = Field(description="Where calls are POSTed to.")


class ToolEndpointConfig(EndpointSection, ToolAddress):
    """One tool over HTTP, in the wire format of Agent RFT."""

    item_fields: Literal["all", "none"] | Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(
        default="all", description="Which of the task's item keys the tool is sent: a tool may leak a reference answer."
    )
    description: str = Field(default="", description="What the tool does, for chat templates that list tools.")
    parameters: dict[str, Any] | None = Field(
        default=None, description="JSON schema of the arguments, for chat templates that list tools."
    )
    check_arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments that `agentrl endpoints check` calls the tool with."
    )


class MCPServerConfig(Section):
    """An MCP server: over streamable HTTP (`url`), or a command that speaks it over stdin and stdout."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(description="The server's name in messages.")
    url: Url | None = Field(default=None, description="Address of a server that speaks streamable HTTP.")
    command: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS, Field(min_length=1)] | None = Field(
        default=None, description="Program and arguments of a stdio server; {python} is the running interpreter."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent to the `url`; ${NAME} is replaced from the environment."
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Variables of the `command`, which inherits PATH and HOME only; ${NAME} is replaced.",
    )
    session: Literal["per_rollout", "shared"] = Field(
        default="per_rollout", description="`per_rollout` isolates: a session, or process, of its own for each episode."
    )
    allow: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] | None = Field(
        default=None, description="Names of the server's tools that the policy may call; null is all."
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,32}$")] = Field(
        default="", description="Put before the names of the server's tools, where two servers share a name."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30.0, description="Seconds for one call, and for opening a session."
    )
    max_concurrency: PositiveInt = Field(default=64, description="Calls in flight at once; more wait.")
    allow_private: bool = Field(
        default=False,
        description="Whether the `url` may lead to private networks; localhost and 127.0.0.1 always may be called.",
    )

    def problems(self) -> Iterator[Problem]:
        if self.url is not None and (problem := url_problem(self.url, allow_private=self.allow_private)):
            yield Problem(("url",), problem)
        if (self.url is None) == (self.command is None):
            found = "neither url nor command" if self.url is None else "both url and command"
            yield Problem((), f"found {found}; allowed: one of them")
        elif self.url is None and self.headers:
            yield Problem(("headers",), "found headers with a command; allowed: env")
        elif self.command is None and self.env:
            yield Problem(("env",), "found env with a url; allowed: headers")
        for index, word in enumerate(self.command or ()):
            for name in PLACEHOLDER.findall(word):
                if name != "python":
                    yield Problem(("command", index), f"unknown placeholder {{{name}}}; allowed: {{python}}")


class PythonToolConfig(Section):
    """A typed Python function; `package.module:function` alone is short for its `function`."""

    function: NonEmpty = Field(description="`package.module:function`; its name, docstring and types are the tool's.")
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(default=30.0, description="Seconds for one call.")
    max_concurrency: PositiveInt = Field(default=64, description="Calls in flight at once; more wait.")

    def problems(self) -> Iterator[Problem]:
        if not FUNCTION.fullmatch(self.function):
            yield Problem(("function",), f"found {self.function!r}; allowed: package.module:function")


def _function_alone(value: Any) -> Any:
    return {"function": value} if isinstance(value, str) else value


class LifecycleAddress(Section):
    """Who opens a sandbox, and who closes it."""

    open_url: Url = Field(description="Where `rollout_open` is POSTed to, once an episode.")
    close_url: Url = Field(description="Where `rollout_close` is POSTed to, once an episode.")


class LifecycleConfig(EndpointSection, LifecycleAddress):
    """A sandbox for each episode, opened before its first turn and closed after its grade (docs/endpoints.md)."""

    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=60.0, description="Seconds for one attempt, from connecting to the last byte."
    )
    max_open: PositiveInt = Field(default=256, description="Sandboxes open at once; further episodes wait.")
    item_fields: Literal["all", "none"] | Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(
        default="all", description="Which of the task's item keys `rollout_open` is sent."
    )


class ToolsConfig(Section):
    """Servers are started in order, before the first check of the endpoints; a bare list is one of endpoints."""

    serve: Annotated[tuple[ServeConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Servers to start with the run and stop at its end."
    )
    endpoints: Annotated[tuple[ToolEndpointConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Tools that the policy may call."
    )
    mcp: Annotated[tuple[MCPServerConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="MCP servers whose tools the policy may call; needs agentrl[mcp]."
    )
    python: Annotated[tuple[Annotated[PythonToolConfig, BeforeValidator(_function_alone)], ...], ALLOW_LISTS] = Field(
        default=(), description="Python functions that the policy may call."
    )
    lifecycle: LifecycleConfig | None = Field(
        default=None, description="Opens and closes a sandbox for each episode; null where the tools need none."
    )
    policy: ToolPolicyConfig | None = Field(
        default=None, description="Which calls are made, refused, or need a person's word; null: all are made."
    )

    def problems(self) -> Iterator[Problem]:
        for index in repeated(endpoint.name for endpoint in self.endpoints):
            path = ("endpoints", index, "name")
            yield Problem(path, f"found '{self.endpoints[index].name}' a second time; allowed: one endpoint a name")
        for index in repeated(server.name for server in self.mcp):
            yield Problem(("mcp", index, "name"), f"found '{self.mcp[index].name}' a second time; allowed: one server")
        if not self.serve:
            for index, endpoint in enumerate(self.endpoints):
                if SERVE in endpoint.server_url:
                    yield Problem(("endpoints", index, "server_url"), served_by_nobody(("tools",)))
            for index, server in enumerate(self.mcp):
                if SERVE in (server.url or ""):
                    yield Problem(("mcp", index, "url"), served_by_nobody(("tools",)))
            for key in ("open_url", "close_url"):
                if self.lifecycle and SERVE in getattr(self.lifecycle, key):
                    yield Problem(("lifecycle", key), served_by_nobody(("tools",)))


def expand_endpoint_list(tools: Any) -> Any:
    """The short form, `tools: [{name, server_url, headers}]` as in hosted jobs, to the long one."""
    return {"endpoints": tools} if isinstance(tools, list | tuple) else tools


def served_by_nobody(section: tuple[str, ...]) -> str:
    """Why an address with {serve} means nothing here."""
    return f"found {SERVE}, but {dotted(section)}.serve starts no server; allowed: http:// or https://"
