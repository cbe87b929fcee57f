"""What each metric reads off one session: one or more ratios x / y that are summed over sessions, or None.

A rate or a mean has y = 1; cost per success has x = cost and y = success; tool errors have x = errors and y = calls.
The reliability score is a product of three such ratios. None says that the session was not measured: it is missing,
neither 0 nor false.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentrl.config.functions import load_function, working_directory_importable
from agentrl.config.release import FEEDBACK, GateConfig
from agentrl.disk import file_digest
from agentrl.errors import ReleaseError
from agentrl.release.records import SessionEvidence

Parts = tuple[tuple[float, float], ...]
"""(x, y) of every ratio."""
Reading = Callable[[SessionEvidence], Parts | None]

CLOCK_SECONDS = 0.001
"""Shorter sessions count as this long: a logarithm needs more than 0."""


def reading_of(gate: GateConfig) -> Reading:
    """How a gate's metric is read off a session.

    Raises:
        ConfigError: it is measured by a function that cannot be imported.
    """
    if gate.function == FEEDBACK:
        return lambda session: _one(session.extra.get(gate.metric))
    if gate.function is not None:
        return functools.partial(_of_own, gate.metric, load_metric(gate.metric, gate.function))
    found = READINGS[gate.metric]
    if gate.metric == "safety_violations" and gate.statistic == "rate":
        return _is_violated
    return _weighted_kl if gate.metric == "policy_kl_drift" and gate.statistic == "ratio_of_sums" else found


@functools.cache
def load_metric(name: str, function: str) -> Callable[..., Any]:
    """The function of a metric that a team added.

    Raises:
        ConfigError: it cannot be imported.
    """
    with working_directory_importable():
        return load_function(f"release.metrics: {name}: function", function)


def program_digest(gate: GateConfig) -> str:
    """sha256 of the file of a metric of the team's own: a function that changed measures something else. Else empty."""
    if gate.function is None or gate.function == FEEDBACK:
        return ""
    try:
        file = inspect.getsourcefile(load_metric(gate.metric, gate.function))
        return file_digest(Path(file)) if file else ""
    except (TypeError, OSError):  # a callable object, or a file that is gone
        return ""


def _of_own(name: str, function: Callable[..., Any], session: SessionEvidence) -> Parts | None:
    try:
        value = function(session)
    except Exception as error:
        raise ReleaseError(f"the metric {name} raised {type(error).__name__}: {error}; it may return None") from error
    if value is None or isinstance(value, int | float):
        return _one(value)
    raise ReleaseError(
        f"the metric {name} returned {value!r:.80}; allowed: a number, or None where it was not measured"
    )


def _one(value: float | None) -> Parts | None:
    """Of one number; NaN and infinity were not measured."""
    return None if value is None or not math.isfinite(value) else ((float(value), 1.0),)


def _is_violated(session: SessionEvidence) -> Parts | None:
    violations = session.safety_violations
    return None if violations is None else _one(float(violations > 0))


def _seconds(session: SessionEvidence) -> Parts | None:
    seconds = session.seconds
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return None
    return _one(max(seconds, CLOCK_SECONDS))


def _cost_per_success(session: SessionEvidence) -> Parts | None:
    cost, success = session.cost_usd, session.success
    if cost is None or success is None or not math.isfinite(cost) or cost < 0:
        return None
    return ((float(cost), float(success)),)


def _tool_errors(session: SessionEvidence) -> Parts | None:
    calls, errors = session.tool_calls, session.tool_errors
    return None if calls is None or errors is None else ((float(errors), float(calls)),)


def _weighted_kl(session: SessionEvidence) -> Parts | None:
    """By tokens: the mean over all tokens, rather than over sessions."""
    kl, tokens = session.policy_kl, session.policy_kl_tokens
    if kl is None or not tokens or not math.isfinite(kl):
        return None
    return ((kl * tokens, float(tokens)),)


def _reliability(session: SessionEvidence) -> Parts | None:
    """Success, no override, calls without error; the three must be known of the same session."""
    success, override, calls, errors = session.success, session.human_override, session.tool_calls, session.tool_errors
    if success is None or override is None or calls is None or errors is None:
        return None
    return ((float(success), 1.0), (float(not override), 1.0), (float(calls - errors), float(calls)))


READINGS: dict[str, Reading] = {
    "safety_violations": lambda session: _one(session.safety_violations),
    "task_success": lambda session: _one(session.success),
    "completion_quality": lambda session: _one(session.quality),
    "session_seconds": _seconds,
    "cost_per_success": _cost_per_success,
    "human_override_rate": lambda session: _one(session.human_override),
    "tool_error_rate": _tool_errors,
    "policy_kl_drift": lambda session: _one(session.policy_kl),
    "reliability_score": _reliability,
}
"""By metric; `rollback_seconds` is read off drills, not sessions."""
