"""`agentrl train --profile`: where a step's time goes, in metrics.jsonl, profile.json and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

PROFILE = "profile.json"
PARTS = {
    "generation": "the engine generates",
    "tools": "nothing is generated, a tool is awaited",
    "grading": "nothing but grades are awaited",
    "old_logprobs": "log-probabilities and values before the update",
    "reference": "log-probabilities of the reference",
    "backward": "loss and gradients, forward and backward",
    "optimizer": "optimiser steps",
    "sync": "new weights to the engine",
    "evaluation": "validation",
    "checkpoint": "saving",
    "other": "the rest",
}
"""Every part of a step; with `seconds_` before it, its key in metrics.jsonl."""


def step_metrics(seconds: Mapping[str, float]) -> dict[str, float]:
    """`seconds_PART` of every part, and `seconds_step`, their sum."""
    known = {part: seconds.get(part, 0.0) for part in PARTS}
    known["other"] += sum(value for part, value in seconds.items() if part not in PARTS)
    return {f"seconds_{part}": value for part, value in known.items()} | {"seconds_step": sum(known.values())}


def profile_of(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """profile.json: mean seconds of each part over the steps that were profiled, and each part's share."""
    profiled = [row for row in rows if "seconds_step" in row]
    if not profiled:
        return {"steps": 0, "seconds_per_step": None, "parts": {}}
    whole = fmean(row["seconds_step"] for row in profiled)
    parts = {part: fmean(row[f"seconds_{part}"] for row in profiled) for part in PARTS}
    shares = {part: {"seconds": value, "share": value / whole if whole else 0.0} for part, value in parts.items()}
    return {"steps": len(profiled), "seconds_per_step": whole, "parts": shares}


def format_profile(profile: Mapping[str, Any]) -> str:
    """The table, parts in the order of a step."""
    if not profile["steps"]:
        return "no step was profiled"
    lines = [f"{'part':<14}{'s/step':>9}{'share':>8}"]
    for part, found in profile["parts"].items():
        lines.append(f"{part:<14}{found['seconds']:>9.3f}{found['share']:>8.1%}  {PARTS[part]}")
    lines.append(f"{'step':<14}{profile['seconds_per_step']:>9.3f}{1:>8.1%}  mean of {profile['steps']} steps")
    return "\n".join(lines)
