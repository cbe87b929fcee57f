"""A person's word on one tool call: asked for, bound to exactly that call, and a no where it does not come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from agentrl.strict_json import strict_json
from agentrl.tools.tool_policy import DENY, NEEDS_APPROVAL, ToolDecision, ToolPolicy
from agentrl.types import ToolCall, ToolResult

Outcome = Literal["approved", "refused", "approval_timeout"]
APPROVED: Outcome = "approved"
REFUSED: Outcome = "refused"
TIMEOUT: Outcome = "approval_timeout"
SAID: Mapping[Outcome, str] = {
    REFUSED: "a person refused this call",
    TIMEOUT: "a person has to approve this call, and nobody did in time",
}


@dataclass(frozen=True)
class ApprovalRequest:
    """What somebody is asked to allow."""

    tool: str
    arguments: str = field(repr=False)
    """JSON text, as the model wrote it."""
    session_id: str
    reason: str
    """Why a person is asked, in the words of the rule."""
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What else the answer depends on, such as the policy's bundle: an approval does not outlive a change of it."""


class Approver(Protocol):
    """Asks people, and waits for them as long as the tool policy says."""

    async def ask(self, request: ApprovalRequest) -> Outcome: ...


@dataclass(frozen=True)
class ToolGate:
    """Stands before every call: the rules first, then people where the rules want them."""

    policy: ToolPolicy
    approver: Approver | None = None
    """None: nobody is there, as in training, and what needs an approval is not made."""

    async def refusal(self, call: ToolCall, *, rollout_id: str) -> ToolResult | None:
        """What the policy reads in place of the tool's answer; None where the call may be made.

        A call that was not made is neither an error of the tool nor, where nobody answered, a fault of the policy.
        """
        decision = self.policy.decide(call.name, call.arguments)
        if decision.decision == DENY:
            return denied(call, decision.message, "scope" if decision.is_out_of_scope else "policy")
        if decision.decision != NEEDS_APPROVAL:
            return None
        said = await self._ask(call, decision, rollout_id)
        return None if said == APPROVED else denied(call, f"Not allowed: {SAID[said]}", said)

    async def _ask(self, call: ToolCall, decision: ToolDecision, rollout_id: str) -> Outcome:
        if self.approver is None:
            return TIMEOUT
        request = ApprovalRequest(call.name, call.arguments, rollout_id, decision.reason)
        try:
            return await self.approver.ask(request)
        except Exception:  # whatever keeps people from being asked keeps the call from being made
            return TIMEOUT


def denied(call: ToolCall, message: str, why: str) -> ToolResult:
    """The answer to a call that was not made. That nobody was there to approve it is not the policy's error."""
    return ToolResult(call.id, call.name, message, 0.0, is_error=why != TIMEOUT, denied=why)


def call_hash(tool: str, arguments: str | Mapping[str, Any], context: Mapping[str, Any], expires_at: float) -> str:
    """`sha256:...` of all that an approval is bound to; equal arguments in another order or spacing are the same call.

    Raises:
        ValueError: the arguments are no JSON.
    """
    parsed = strict_json(arguments) if isinstance(arguments, str) else arguments
    bound = {"tool": tool, "arguments": parsed, "context": context, "expires_at": round(expires_at, 3)}
    text = json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
