"""Stop rules over the metrics of past steps (docs/algorithm.md lists signals, thresholds and sources)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agentrl.config import GuardsConfig

Row = Mapping[str, float]


class Violation(NamedTuple):
    """A rule that fired."""

    rule: str
    message: str


def violation(history: Sequence[Row], guards: GuardsConfig) -> Violation | None:
    """The first rule that the newest step breaks, or None.

    A fast signal stops at once; a slow one after `patience_steps` steps in a row. The rules read nothing but the
    metrics, so a resumed run judges as an uninterrupted one.

    Args:
        history: the metrics of every step so far, oldest first.
    """
    first_entropy = history[0].get("entropy", 0.0)
    slow = guards.patience_steps
    rules: list[tuple[str, str, int, Callable[[float], bool], str]] = [
        ("kl", "kl_per_token", 1, lambda x: x > guards.max_kl_per_token, f"above {guards.max_kl_per_token:g}"),
        ("grad_norm", "grad_norm", 1, lambda x: x > guards.max_grad_norm, f"above {guards.max_grad_norm:g}"),
        ("update_kl", "abandoned_minibatches", 3, lambda x: x > 0, f"approx_kl above {guards.max_update_kl:g}"),
        (
            "entropy_collapse",
            "entropy",
            slow,
            lambda x: x < guards.min_entropy_fraction * first_entropy,
            f"below {guards.min_entropy_fraction:g} of step 1 ({first_entropy:.4g})",
        ),
        (
            "entropy_blow_up",
            "entropy",
            slow,
            lambda x: x > guards.max_entropy_fraction * first_entropy,
            f"above {guards.max_entropy_fraction:g} times step 1 ({first_entropy:.4g})",
        ),
        (
            "clip_fraction",
            "clip_fraction",
            slow,
            lambda x: x > guards.max_clip_fraction,
            f"above {guards.max_clip_fraction:g}",
        ),
        (
            "explained_variance",
            "explained_variance",
            slow,
            lambda x: x < guards.min_explained_variance,
            f"below {guards.min_explained_variance:g}",
        ),
    ]
    for rule, key, patience, is_bad, limit in rules:
        recent = [row[key] for row in history[-patience:] if row.get(key) is not None]
        if len(recent) == patience and all(map(is_bad, recent)):
            shown = ", ".join(f"{row[key]:.4g}" for row in history[-10:] if row.get(key) is not None)
            times = "" if patience == 1 else f" for {patience} steps"
            return Violation(rule, f"{key} is {limit}{times}; last values: {shown}")
    return None
