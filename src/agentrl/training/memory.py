"""The most memory that each phase of a step holds: log-probabilities and update run out of it at different sizes."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch

from agentrl.phases import Phases

PHASES = {
    "rollout": ("rollout",),
    "logprobs": ("old_logprobs", "reference"),
    "update": ("backward", "optimizer"),
}
"""Phases whose peak is reported, and the parts of a step that they are made of."""
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class DeviceMemory:
    """Bytes that torch holds on the GPU."""

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated()


class ProcessMemory:
    """Bytes of memory that the process has in use (resident), by Linux' high-water mark, which can be set back."""

    largest = 0
    """The highest mark that was set back, over the whole process."""

    def reset(self) -> None:
        ProcessMemory.largest = max(ProcessMemory.largest, self.peak_bytes())
        CLEAR_REFS.write_text("5")

    def peak_bytes(self) -> int:
        line = next(each for each in STATUS.read_text().splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def open_phases(device: torch.device, *, is_profiled: bool) -> Phases:
    """The clock of a run. Memory is not measured where it cannot be (no Linux, no right to set the mark back).

    Args:
        is_profiled: on a GPU the clock waits for the device at the end of each part.
    """
    if device.type == "cuda":
        return Phases(finish=torch.cuda.synchronize if is_profiled else None, memory=DeviceMemory())
    with suppress(OSError, StopIteration):
        memory = ProcessMemory()
        memory.reset()
        return Phases(memory=memory)
    return Phases()


def memory_metrics(peaks: Mapping[str, int]) -> dict[str, float]:
    """`memory_PHASE_bytes`, from the peaks of the parts."""
    by_phase = {phase: [peaks[part] for part in parts if part in peaks] for phase, parts in PHASES.items()}
    return {f"memory_{phase}_bytes": float(max(found)) for phase, found in by_phase.items() if found}


def peak_rss_bytes() -> int:
    """Most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kilobytes
    return max(peak, ProcessMemory.largest)
