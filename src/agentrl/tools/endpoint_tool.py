"""One tool over HTTP in the wire format of Agent RFT: whose fault is it when a call goes wrong?

Sent:      {"type": "function_call", "id": "fc_7", "call_id": "call_7", "name": "cat", "arguments": "{\\"path\\": ...}",
            "item": {...}, "trace_id": "trace_..."}
Expected:  {"output": "...", "call_id": "call_7"}     (call_id may be left out)

The policy's fault is shown to it as text that it can learn from: malformed arguments, a 4xx. Ours, or the tool
owner's, is a ToolError that discards the rollout: 5xx, timeouts, lost connections, 401, 403, 404, 429, replies
outside the format.
"""

from __future__ import annotations

from typing import Any

import httpx

from agentrl.config import ToolEndpointConfig
from agentrl.endpoint import INFRASTRUCTURE_STATUSES, Endpoint, EndpointFailure, Reply, advice, excerpt, served_url
from agentrl.errors import SandboxError, ToolError
from agentrl.tools.output import InvalidArguments, arguments_of, as_text, refusal, tool_object, tool_result
from agentrl.types import ToolCall, ToolResult

GONE = 410
"""What the episode built there is lost: going on in a blank sandbox would be another episode."""


class EndpointTool:
    """A tool of `tools.endpoints`.

    Args:
        base_url: what `{serve}` in the config's server_url stands for.
        max_output_chars: a longer output is cut, with a marker at its end.
        transport: replaces the network in tests.

    Raises:
        ConfigError: the URL or a header cannot be used.
    """

    def __init__(
        self,
        config: ToolEndpointConfig,
        base_url: str = "",
        *,
        max_output_chars: int = 8000,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = config.name
        says = config.description or config.parameters
        self.description = tool_object(config.name, config.description, config.parameters) if says else None
        self._item_fields = config.item_fields
        self._max_output_chars = max_output_chars
        url = served_url(f"tool {config.name}", config.server_url, base_url)
        self.endpoint = Endpoint(f"tool {config.name}", url, config.headers, transport=transport, **config.call_options)
        """Its health and its statistics."""
        self.last_body: dict[str, Any] | None = None
        """The newest answer, where it was a JSON object: it may say more than `output`, such as its `version`."""

    def __repr__(self) -> str:
        return f"EndpointTool({self.name!r}, {self.endpoint.shown_url!r})"

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        """Answer one call of the policy.

        Raises:
            ToolError: the endpoint failed for a reason that is not the policy's.
        """
        try:
            arguments_of(call)
        except InvalidArguments as error:
            return refusal(call, error, max_output_chars=self._max_output_chars)
        payload = self.request_body(call, rollout_id=rollout_id, item=item)
        try:
            reply = await self.endpoint.post(payload, rollout_id=rollout_id, check=_outside_the_protocol)
        except EndpointFailure as failure:
            raise ToolError(str(failure), rollout_id=rollout_id) from failure
        self.last_body = reply.json
        output = self._output(reply, rollout_id)
        return tool_result(
            call,
            output,
            max_output_chars=self._max_output_chars,
            seconds=reply.seconds,
            is_error=reply.status >= 400,
            attempts=reply.attempts,
        )

    def request_body(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> dict[str, Any]:
        """What the endpoint is sent for a call."""
        return {
            "type": "function_call",
            "id": f"fc_{call.id.removeprefix('call_')}",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "item": self._visible(item),
            "trace_id": rollout_id,
        }

    def _visible(self, item: dict[str, Any]) -> dict[str, Any]:
        if self._item_fields == "all":
            return item
        if self._item_fields == "none":
            return {}
        return {key: value for key, value in item.items() if key in self._item_fields}

    def _output(self, reply: Reply, rollout_id: str) -> str:
        where = f"tool {self.name} at {self.endpoint.shown_url}"
        if reply.status == GONE:
            raise SandboxError(f"{where}: answered {GONE}{excerpt(reply.text)}", rollout_id=rollout_id)
        if reply.status in INFRASTRUCTURE_STATUSES:
            hint = advice("status", reply.status)
            raise ToolError(f"{where}: answered {reply.status}{excerpt(reply.text)}{hint}", rollout_id=rollout_id)
        body = reply.json or {}
        if reply.status >= 400:
            if "output" in body:
                return _text(body["output"])
            return _text(reply.json) if reply.json is not None else reply.text or f"Error {reply.status}."
        return _text(body["output"])


def _outside_the_protocol(body: dict[str, Any]) -> str:
    """What is wrong with a reply; empty if nothing is."""
    if "output" in body:
        return ""
    keys = ", ".join(map(repr, body)) or "none"
    return f"answered without `output` (keys: {keys:.200}); a reply is {{'output': text}}"


def _text(output: Any) -> str:
    """An output as the policy sees it: text, the text of `input_text` parts joined, anything else as compact JSON."""
    if isinstance(output, list) and output and all(_is_text_part(part) for part in output):
        return "\n".join(part["text"] for part in output)
    return as_text(output)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "input_text" and isinstance(part.get("text"), str)
