from __future__ import annotations

import math
import random

import pytest

from agentrl.inference.probe import Reading, disproof, distance, moved_along

TOLERANCE = 1e-3


def numbers(seed: int, n: int = 64, scale: float = 1.0) -> tuple[float, ...]:
    draw = random.Random(seed)
    return tuple(-1.0 + scale * draw.gauss(0, 1) for _ in range(n))


def plus(one: tuple[float, ...], other: tuple[float, ...], by: float) -> tuple[float, ...]:
    return tuple(a + by * b for a, b in zip(one, other, strict=True))


def reading(trainer: tuple[float, ...], server: tuple[float, ...] | None = None, noise: float = 1e-6) -> Reading:
    """A server that agrees in its sampled tokens, and in the forced ones unless `server` says otherwise."""
    forced = server if server is not None else plus(trainer, numbers(99), noise)
    sampled = numbers(7, 16)
    return Reading(forced, trainer, sampled, sampled, sampled)


def proof(now: Reading, before: Reading | None = None, *, tolerance: float = TOLERANCE, is_full: bool = False) -> str:
    return disproof(now, before, tolerance=tolerance, is_full=is_full)


START, STEP = numbers(1), numbers(2)


def test_a_server_that_follows_the_policy_passes() -> None:
    before, now = reading(START), reading(plus(START, STEP, 0.1))
    assert (proof(before), proof(now, before)) == ("", "")
    assert moved_along(now, before) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("size", [1e-4, 0.01, 1.0])
def test_a_server_that_stands_still_while_the_policy_moves_does_not(size: float) -> None:
    before = reading(START)
    now = reading(plus(START, STEP, size), before.server_forced)
    assert "no effect" in proof(now, before, tolerance=10.0)
    assert moved_along(now, before) == pytest.approx(0.0, abs=0.02)


def test_a_server_that_goes_a_third_of_the_way_does_not() -> None:
    before = reading(START)
    now = reading(plus(START, STEP, 0.3), plus(START, STEP, 0.1))
    assert "33% of the policy's last moves" in proof(now, before, tolerance=10.0)


def test_a_move_smaller_than_what_the_two_sides_differ_by_proves_nothing() -> None:
    before = reading(START, noise=0.01)  # as in bfloat16
    tiny_step = reading(plus(START, STEP, 0.001), before.server_forced)
    assert moved_along(tiny_step, before) is None
    assert proof(tiny_step, before, tolerance=0.1) == ""
    many_steps = reading(plus(START, STEP, 0.2), before.server_forced)  # so the reading before is kept until it does
    assert "no effect" in proof(many_steps, before, tolerance=0.1)


def test_wrong_weights_are_explained_by_what_was_sent() -> None:
    before, now = reading(START), reading(plus(START, STEP, 0.1), plus(START, numbers(5), 0.1))
    wrong = reading(plus(START, STEP, 0.1), plus(plus(START, STEP, 0.1), numbers(5), 0.05))
    assert "is its --model the workflow.baseline" in proof(now)
    assert "is its --model the workflow.baseline" in proof(wrong, before)
    assert "tied embeddings" in proof(wrong, before, is_full=True)
    assert "probe_tolerance is 0.001" in proof(now)


def test_sampled_tokens_tell_temperature_and_stale_caches_apart() -> None:
    tempered, plain, stale = numbers(7, 16), numbers(8, 16), numbers(9, 16)
    raw = Reading(START, START, plain, tempered, plain)
    assert "--logprobs-mode processed_logprobs" in proof(raw)
    old = Reading(START, START, stale, tempered, plain)
    assert "prefix cache has outlived an update" in proof(old)
    assert proof(Reading(START, START, tempered, tempered, plain)) == ""


@pytest.mark.parametrize("server", [(), (math.nan,) * 64, (-1.0,) * 63, (-math.inf,) * 64])
def test_what_cannot_be_compared_is_no_proof(server: tuple[float, ...]) -> None:
    assert distance(START, server) == math.inf
    assert proof(reading(START, server)) != ""
