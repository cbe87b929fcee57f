"""Learning rates over a run: a pure function of the step, so there is nothing to save and nothing to restore."""

from __future__ import annotations

import math

import torch

from agentrl.config import PPOConfig


def learning_rate_factor(step: int, config: PPOConfig) -> float:
    """What all learning rates are multiplied with in the step after `step` others.

    A linear rise over `learning_rate_warmup_steps`, then constant, a line to 0 or half a cosine to 0 at `steps`. The
    last step still learns.
    """
    warmup = config.learning_rate_warmup_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(config.steps - warmup, 1), 1.0)
    match config.learning_rate_schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Every group's rate to `factor` times the one that it was made with; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
    return float(optimizer.param_groups[0]["lr"])
