"""The check of `tools.lifecycle`: can a sandbox be opened and closed?"""

from __future__ import annotations

import time
from collections.abc import Sequence

from agentrl.errors import SandboxError
from agentrl.tools.checks.finding import Finding, Traces
from agentrl.tools.lifecycle import Lifecycle
from agentrl.types import Task


async def check_sandbox(lifecycle: Lifecycle, tasks: Sequence[Task]) -> Finding:
    """Open one with a real row, and close it."""
    traces, started = Traces(lifecycle), time.perf_counter()
    try:
        await traces.new(tasks[0].item if tasks else {})
    except SandboxError as error:
        return Finding("sandbox", "reachable", "failed", str(error))
    finally:
        opened = time.perf_counter()
        await traces.close()
    closed = time.perf_counter()
    if lifecycle.unclosed:
        return Finding("sandbox", "reachable", "failed", "it was opened, but could not be closed; see the log above")
    times = f"opened in {1000 * (opened - started):.0f} ms, closed in {1000 * (closed - opened):.0f} ms"
    figures = {"open_seconds": opened - started, "close_seconds": closed - opened}
    return Finding("sandbox", "reachable", "ok", times, figures)
