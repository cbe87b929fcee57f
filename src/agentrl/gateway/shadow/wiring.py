"""A gateway with its shadow: what `agentrl gateway` starts where the config may have one."""

from __future__ import annotations

from agentrl.config import RunConfig
from agentrl.errors import ConfigError
from agentrl.gateway.gateway import Gateway
from agentrl.gateway.shadow.grades import Grading
from agentrl.gateway.shadow.shadow import Shadow
from agentrl.gateway.turns import FinishedTurn
from agentrl.grading.build import build_grader


def shadow_of(gateway: Gateway, config: RunConfig) -> Shadow:
    """The shadow of a gateway; it copies while the routing's channel is `shadow`, between `start` and `aclose`.

    Raises:
        ConfigError: both answers are to be graded, and the config has no grader for it.
    """

    def is_wanted(turn: FinishedTurn) -> bool:
        served, routing = gateway.served, turn.routing
        return (
            routing is not None
            and served.shadow == routing.candidate_upstream
            and served.release_id == routing.release_id
        )

    shadow = Shadow(
        gateway.upstreams,
        gateway.config.shadow,
        gateway.place.store,
        grading=_grading(config) if gateway.config.shadow.grade else None,
        record=gateway.record,
        is_wanted=is_wanted,
        clock=gateway.clock,
        wall=gateway.wall,
    )
    gateway.watch([shadow.watch])
    gateway.status_of["shadow"] = lambda: {"waiting": shadow.waiting, **shadow.counts.as_dict()}
    return shadow


def _grading(config: RunConfig) -> Grading:
    if config.grading is None:
        raise ConfigError("gateway.shadow.grade: found true without a `grading` section; allowed: with one")
    return Grading(
        build_grader(config.grading),
        pass_threshold=config.grading.pass_threshold,
        timeout_seconds=config.rollout.max_grading_seconds,
    )
