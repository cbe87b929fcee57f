"""The ledgers of open sandboxes: one per rank, and what crashed processes left in theirs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from agentrl.errors import CheckpointError
from agentrl.policy.ranks import Ranks
from agentrl.rollout.engine import RolloutEngine
from agentrl.runs.lock import RunLock
from agentrl.tools.lifecycle import LEDGER

RANKS = "ranks"
"""Folder of a run directory: the ledgers of all ranks but the first, by their numbers."""


async def open_ledgers(engine: RolloutEngine, run: Path, ranks: Ranks, *, has_lifecycle: bool) -> None:
    """Open this rank's ledger; the first rank closes what processes that are no more left open, here and beside."""
    if not has_lifecycle:
        return
    if ranks.is_first:
        for ledger in sorted(run.glob(f"{RANKS}/*/{LEDGER}")):
            await engine.reap(ledger.parent)
        await _reap_siblings(engine, run)
    ranks.gather([])  # reaped before anybody opens his own
    folder = run if ranks.is_first else run / RANKS / str(ranks.rank)
    folder.mkdir(parents=True, exist_ok=True)
    await engine.open_ledger(folder)


async def _reap_siblings(engine: RolloutEngine, run: Path) -> None:
    """Close the sandboxes that crashed runs beside this one left open; where somebody works they are in use."""
    beside = run.absolute().parent
    found = (*beside.glob(f"*/{LEDGER}"), *beside.glob(f"*/{RANKS}/*/{LEDGER}"))
    for ledger in sorted(found):
        sibling = beside / ledger.relative_to(beside).parts[0]
        if sibling == run.absolute():
            continue
        with suppress(CheckpointError, OSError):
            lock = RunLock.acquire(sibling)
            try:
                await engine.reap(ledger.parent)
            finally:
                lock.release()
