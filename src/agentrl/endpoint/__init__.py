"""HTTP to tools and graders, and the only place that retries. Read `endpoint.py`, then `gate.py` and `judge.py`.

Every request carries the rollout's id in `X-Rollout-Id`, beside the `trace_id` of its body, and with the call's id in
`Idempotency-Key`. What is tried again: connection errors, timeouts, 5xx, 429, and 2xx bodies that are no JSON object,
lack what they are for or belong to another call. A 4xx is an answer, and belongs to the caller. Timeouts are deadlines:
a server that sends a byte a second cannot hold a rollout. An endpoint that fails again and again is left alone until a
probe is answered; one that is pressed too hard gets fewer calls at once.

`network.py` decides what is connected to, `first_answers.py` is for servers. May import: floor 0.
"""

from __future__ import annotations

from agentrl.endpoint.address import served_url
from agentrl.endpoint.body import MAX_BYTES, excerpt
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
]
