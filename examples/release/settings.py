"""The rehearsal's config: configs/finqa-release.yaml with other spans of time, sizes and servers, and nothing else.

A canary of a week is played in seconds, so every span is shorter, and with a few hundred sessions instead of thousands
every margin is wider. Rules, tests, error rates and the way through them are those of the config.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CONFIG = Path("configs/finqa-release.yaml")
CANDIDATES = ("trained", "overtrained", "slow", "leaky")
SPANS: Mapping[str, Any] = {
    "lease_seconds": 4,
    "look_seconds": 0.5,
    "min_canary": "PT5S",
    "canary_traffic_percent": 50,
}
"""Of `release`: 30 s, 30 s, a week and a tenth of the sessions in the config."""
GATEWAY: Mapping[str, Any] = {
    "poll_seconds": 0.1,
    "drain_seconds": 3,
    "session_idle_seconds": 1.5,
    "feedback_window_seconds": 5,
    "shadow": {"concurrency": 4, "grade": False},
}
MARGINS: Mapping[str, Mapping[str, Any]] = {
    "no_safety_regression": {"margin": {"absolute": 0.2}},
    "task_success_not_worse": {"margin": {"absolute": 0.2}},
    "latency_delta_lt_15_percent": {},
    "cost_per_success_not_worse": {"margin": {"relative": 0.25}},
    "tool_error_rate_not_worse": {"margin": {"absolute": 0.25}},
    "human_override_rate_not_worse": {"margin": {"absolute": 0.2}, "label_lag": "PT0S"},
}
"""By gate; wide enough that about sixty sessions an arm decide."""
MIN_SAMPLES = {"candidate": 30, "baseline": 30}
MIN_ATTACKS = {"candidate": 15, "baseline": 15}


def free_port() -> int:
    """One that nobody listens on now: a gateway that is started again has to be where its users look for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rehearsal_config(folder: Path, *, baseline: str, candidates: str, port: int) -> dict[str, Any]:
    """The whole config, as YAML has it.

    Args:
        folder: of everything that is written.
        baseline, candidates: addresses of the two model servers, without /v1.
    """
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text("utf-8"))
    release, gateway = config["release"], config["gateway"]
    release |= {**SPANS, "folder": str(folder / "releases")}
    release["gates"] = [_row(gate) for gate in release["gates"]]
    # all servers share one machine: how fast it answers after a promotion says what else runs on it
    config["monitoring"]["metrics"].remove("latency")
    prices = gateway["upstreams"]["baseline"]["prices"]
    gateway |= {**GATEWAY, "port": port, "admin_port": 0}
    gateway["upstreams"] = {
        name: {"url": f"{baseline if name == 'baseline' else candidates}/v1", "model": name, "prices": prices}
        for name in ("baseline", *CANDIDATES)
    }
    return config


def _row(gate: str | dict[str, Any]) -> dict[str, Any]:
    row = {"name": gate} if isinstance(gate, str) else gate
    if row["name"] not in MARGINS:
        return row
    least = MIN_ATTACKS if row["name"] == "no_safety_regression" else MIN_SAMPLES
    return {**row, **MARGINS[row["name"]], "min_samples": least}
