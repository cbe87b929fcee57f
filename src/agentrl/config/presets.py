"""Named algorithms. A preset sets how advantages are estimated and what they are divided by, nothing else.

There is one loss and one mask; what a preset sets are defaults of `ppo:` keys, and a key that is written wins.
Sources: Turn-PPO (arXiv:2512.17008), RLOO (arXiv:2402.14740), GRPO (arXiv:2402.03300), Dr. GRPO (arXiv:2503.20783),
DAPO (arXiv:2503.14476), GSPO (arXiv:2507.18071), GiGPO (arXiv:2505.10978).
"""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["token_gae", "turn_gae", "rloo", "grpo", "dr_grpo", "dapo", "gspo", "gigpo"]
Advantage = Literal["token_gae", "turn_gae", "rloo", "grpo", "gigpo"]

_NO_CRITIC: dict[str, Any] = {"whiten_advantages": False, "critic_warmup_steps": 0, "value_coef": 0.0}
_GROUP: dict[str, Any] = {
    **_NO_CRITIC,
    "advantage": "grpo",
    "aggregation": "seq_mean_token_mean",
    "clip_range_low": 0.2,
    "clip_range_high": 0.2,
    "dual_clip": None,
}

PRESETS: dict[str, dict[str, Any]] = {
    "token_gae": {},
    "turn_gae": {"advantage": "turn_gae", "gamma": 0.99, "gae_lambda": 0.9},
    "rloo": {**_NO_CRITIC, "advantage": "rloo", "aggregation": "seq_mean_token_sum"},
    "grpo": _GROUP,
    "dr_grpo": {**_GROUP, "scale_by_group_std": False, "aggregation": "const_norm"},
    "dapo": {**_GROUP, "aggregation": "token_mean", "clip_range_high": 0.28},
    "gspo": {**_GROUP, "ratio_level": "sequence", "clip_range_low": 3.0e-4, "clip_range_high": 4.0e-4},
    "gigpo": {**_GROUP, "advantage": "gigpo", "gamma": 0.95},
}
"""Defaults of `ppo:` keys under each preset, where they are not those of PPO with a critic."""


def with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """What was written of `ppo:`, with the preset's defaults for what was not."""
    preset = values.get("preset", "token_gae")
    return {**PRESETS.get(preset, {}), **values} if isinstance(preset, str) else values
