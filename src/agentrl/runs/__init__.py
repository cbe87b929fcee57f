"""The run directory: everything that one run leaves on disk, and nothing else writes there.

    config.yaml         the resolved config                manifest.json   versions, commit, machine, command
    metrics.jsonl       one line a step                    summary.json    the figures of the whole run
    rollouts/*.jsonl.gz every rollout with its full trace  report.html     written by evaluation/report.py
    checkpoints/NAME/   written by policy/                 run.lock        held while a process works here
    tokens/*.jsonl.gz   what updates saw in every token

Read `directory.py` first; `trace_files.py` reads rollouts of any run. May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.runs.directory import RunDirectory, default_run_dir
from agentrl.runs.files import read_json, read_metrics, read_rollouts
from agentrl.runs.manifest import environment_manifest

__all__ = [
    "RunDirectory",
    "default_run_dir",
    "environment_manifest",
    "read_json",
    "read_metrics",
    "read_rollouts",
]
