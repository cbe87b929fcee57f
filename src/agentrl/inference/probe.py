"""The proof that a server samples from the trainer's weights: log-probabilities of the same tokens, on both sides.

Two requests a server and update, on a fixed prompt:
  forced   the prompt's own tokens. The server computes them anew, past its prefix cache and before temperature: they
           show its weights, and that they moved where the trainer's did.
  sampled  a continuation, as rollouts get it: it shows the temperature, and a prefix cache that outlived its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

PROMPT_TOKENS = 160  # more than a block of the prefix cache: 128 tokens on a CPU, 16 on a GPU
FORCED_TOKENS = 64
SAMPLED_TOKENS = 16
TEXT = "A server must say what the trainer would say, word for word, before it may speak for the policy. "
CLEAR_MOVE = 4.0
"""A policy has clearly moved where its log-probabilities differ by this many times what the two sides always differ."""
HARDLY_MOVED = 0.1
AT_START = "is its --model the workflow.baseline, unquantised, and its --dtype policy.dtype?"
AFTER_RELOAD = (
    "known cause: with tied embeddings vLLM's CPU backend reloads all but the output layer; save the baseline untied, "
    "or train policy.lora with inference.weights: lora"
)
RAW = "it reports them before temperature: start it with --logprobs-mode processed_logprobs"
STALE = "its prefix cache has outlived an update: reset it after every load, and give every version a folder of its own"


@dataclass(frozen=True)
class Reading:
    """Log-probabilities; `untempered` are the trainer's of the sampled tokens at temperature 1."""

    server_forced: tuple[float, ...]
    trainer_forced: tuple[float, ...]
    server_sampled: tuple[float, ...]
    trainer_sampled: tuple[float, ...]
    untempered: tuple[float, ...]

    @property
    def gap(self) -> float:
        """Mean absolute difference of the forced tokens, in nats."""
        return distance(self.server_forced, self.trainer_forced)


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Mean absolute difference; infinite where it cannot be told."""
    if len(one) != len(other) or not one:
        return math.inf
    found = fmean(abs(a - b) for a, b in zip(one, other, strict=True))
    return found if math.isfinite(found) else math.inf


def moved_along(now: Reading, before: Reading) -> float | None:
    """How much of the trainer's move since `before` the server made: 1 is all of it, 0 none.

    None where the move is too small to be told from what the two sides differed by before it.
    """
    if distance(now.trainer_forced, before.trainer_forced) <= CLEAR_MOVE * before.gap:
        return None
    trainer = [a - b for a, b in zip(now.trainer_forced, before.trainer_forced, strict=True)]
    server = [a - b for a, b in zip(now.server_forced, before.server_forced, strict=True)]
    return sum(t * s for t, s in zip(trainer, server, strict=True)) / sum(t * t for t in trainer)


def disproof(now: Reading, before: Reading | None, *, tolerance: float, is_full: bool) -> str:
    """Why the server does not serve the trainer's weights, and what to do; empty where it does.

    Args:
        before: the last reading from which the policy clearly moved, None at the start.
        tolerance: of the mean differences, in nats.
        is_full: all weights were sent, not an adapter.
    """
    followed = moved_along(now, before) if before is not None else None
    if followed is not None and followed < HARDLY_MOVED:
        return "the update had no effect: it still serves the weights of before"
    if now.gap > tolerance:
        off = f"log-probabilities differ by {now.gap:.2g} nats on average (probe_tolerance is {tolerance:g})"
        return f"it does not serve the policy: {off}; {AFTER_RELOAD if is_full and before is not None else AT_START}"
    sampled = distance(now.server_sampled, now.trainer_sampled)
    if sampled > tolerance:
        off = f"the weights are right, but log-probabilities of sampled tokens differ by {sampled:.2g} nats on average"
        is_raw = distance(now.server_sampled, now.untempered) <= tolerance
        return f"{off}; {RAW if is_raw else STALE}"
    if followed is not None and followed < 0.5:
        return f"it made {followed:.0%} of the policy's last moves"
    return ""
