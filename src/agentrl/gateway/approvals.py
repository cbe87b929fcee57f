"""What agents in production ask before they call a tool, and where people answer.

POST /v1/tools/decide {"session_id", "tool", "arguments", "approval_id"?}      clients
    -> {"decision": "allow" | "deny" | "needs_approval", "reason", "outcome", "approval_id"?, "answer_until"?}
GET  /approvals                                                                operators, on the admin port
POST /approvals/ID {"approver", "approved": true | false, "reason"?}

The agent asks; where a person is needed it is given an id, and asks again with it until the decision is another one. It
makes the call on `allow` alone, with exactly these arguments. What the gateway cannot find out is a no (503, no call).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agentrl.config.tool_policy import ToolPolicyConfig
from agentrl.errors import ConfigError, ConflictError, ReleaseError
from agentrl.gateway.errors import ApiError, busy
from agentrl.gateway.http import Call
from agentrl.gateway.sessions import Session, kept_id
from agentrl.release.approvals import ToolApprovals
from agentrl.release.place import ReleasePlace
from agentrl.tools.approval import ApprovalRequest
from agentrl.tools.tool_policy import ALLOW, DENY, NEEDS_APPROVAL, ToolPolicy

MAX_BODY_BYTES = 1_000_000
ASKED = {"session_id": str, "tool": str, "arguments": (dict, str)}


Owner = Callable[[str, str], Awaitable[Session]]


class ToolQuestions:
    """The tool policy of a workflow, for its clients.

    Args:
        owner: finds the session of an id, and refuses those of other clients.
    """

    def __init__(
        self, place: ReleasePlace, rules: ToolPolicyConfig, owner: Owner, *, wall: Callable[[], float]
    ) -> None:
        self._policy, self._owner = ToolPolicy(rules), owner
        self._approvals = ToolApprovals(place, rules, wall=wall)

    @property
    def counts(self) -> dict[str, int]:
        """Decisions of this replica, `tool:decision`."""
        return {f"{tool}:{decision}": count for (tool, decision), count in sorted(self._policy.counts.items())}

    async def decide(self, call: Call, client: str) -> None:
        """Answer a client.

        Raises:
            ApiError: the question cannot be read, the session is unknown or another client's, or nobody can be asked.
        """
        body = await call.read_json(MAX_BODY_BYTES)
        session_id, tool, arguments = _read(body)
        session = await self._owner(session_id, client)
        asked = ApprovalRequest(tool, arguments, session_id, "", {"bundle": session.bundle or session.upstream})
        try:
            answer = await asyncio.to_thread(self._decided, asked, client, body.get("approval_id"))
        except ConfigError as error:
            raise ApiError(400, str(error), code="invalid_tool_call", param="arguments") from None
        except ReleaseError:
            why = "Whether the call may be made cannot be found out just now: do not make it, ask again."
            raise busy(why, code="store_unreadable") from None
        await call.answer_json(200, {"object": "tool.decision", "tool": tool, **answer})

    async def waiting(self, call: Call) -> None:
        """What people are asked, oldest first, redacted."""
        try:
            rows = await asyncio.to_thread(self._approvals.waiting)
        except ReleaseError:
            raise busy("The store cannot be read.", code="store_unreadable") from None
        await call.answer_json(200, {"object": "list", "data": rows})

    async def answer(self, call: Call, request_id: str) -> None:
        """A person's word.

        Raises:
            ApiError: it cannot be read, comes too late, or is the agent's own.
        """
        body = await call.read_json(MAX_BODY_BYTES)
        if not isinstance(body.get("approver"), str) or not isinstance(body.get("approved"), bool):
            raise ApiError(400, 'allowed: {"approver": "NAME", "approved": true or false}', code="invalid_approval")
        words = {"approver": body["approver"], "is_approved": body["approved"], "reason": str(body.get("reason") or "")}
        try:
            await asyncio.to_thread(lambda: self._approvals.answer(request_id, **words))
        except ConflictError as error:
            raise ApiError(409, str(error), code="approval_conflict") from None
        except ConfigError as error:
            raise ApiError(403, str(error), code="self_approval") from None
        except ReleaseError as error:
            raise ApiError(404, str(error), code="unknown_approval") from None
        await call.answer_json(200, {"object": "approval", "id": request_id, "approved": body["approved"]})

    def _decided(self, asked: ApprovalRequest, client: str, approval_id: Any) -> dict[str, Any]:
        if isinstance(approval_id, str):
            use = self._approvals.use(approval_id, asked)
            if use.outcome == "pending":
                return {
                    "decision": NEEDS_APPROVAL,
                    "reason": use.reason,
                    "outcome": "pending",
                    "approval_id": approval_id,
                }
            return {"decision": ALLOW if use.may_call else DENY, "reason": use.reason, "outcome": use.outcome}
        found = self._policy.decide(asked.tool, asked.arguments)
        kept = "scope" if found.is_out_of_scope and found.decision == DENY else found.decision
        self._approvals.note(asked.session_id, asked.tool if found.decision == ALLOW else _known(asked.tool), kept)
        if found.decision != NEEDS_APPROVAL:
            return {"decision": found.decision, "reason": found.reason, "outcome": kept}
        request = ApprovalRequest(asked.tool, asked.arguments, asked.session_id, found.reason, asked.context)
        kept_request = self._approvals.request(request, agent=client or asked.session_id)
        return {
            "decision": NEEDS_APPROVAL,
            "reason": found.reason,
            "outcome": "pending",
            "approval_id": kept_request.id,
            "answer_until": kept_request.answer_until,
        }


def _read(body: Mapping[str, Any]) -> tuple[str, str, str]:
    for key, kind in ASKED.items():
        if not isinstance(body.get(key), kind) or (isinstance(body[key], str) and not body[key]):  # type: ignore[arg-type]
            known = '{"session_id": "...", "tool": "...", "arguments": {...}}'
            raise ApiError(400, f"{key}: allowed: {known}", code="invalid_tool_call", param=key)
    arguments = body["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return kept_id(body["session_id"]), body["tool"], text


def _known(tool: str) -> str:
    """As it is counted: models make names up, of any length."""
    return tool if len(tool) <= 64 and tool.isascii() and tool.isprintable() else "other"
