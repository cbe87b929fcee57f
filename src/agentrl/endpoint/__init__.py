"""HTTP to tools and graders, and the only place that retries. Read `endpoint.py`.

Every request carries the rollout's id in `X-Rollout-Id`, beside the `trace_id` of its body. What is tried again:
connection errors, timeouts, 5xx, 429 and 2xx bodies that are no JSON object. A 4xx is an answer, and belongs to the
caller. Timeouts are deadlines on a whole attempt: a server that sends a byte a second cannot hold a rollout.
May import: floor 0.
"""

from __future__ import annotations

from agentrl.endpoint.address import served_url
from agentrl.endpoint.body import MAX_BYTES, excerpt, strict_json
from agentrl.endpoint.breaker import Health
from agentrl.endpoint.endpoint import Endpoint, Reply
from agentrl.endpoint.faults import INFRASTRUCTURE_STATUSES, EndpointFailure, advice
from agentrl.endpoint.first_answers import CallConflict, FirstAnswers
from agentrl.endpoint.stats import EndpointStats

__all__ = [
    "INFRASTRUCTURE_STATUSES",
    "MAX_BYTES",
    "CallConflict",
    "Endpoint",
    "EndpointFailure",
    "EndpointStats",
    "FirstAnswers",
    "Health",
    "Reply",
    "advice",
    "excerpt",
    "served_url",
    "strict_json",
]
