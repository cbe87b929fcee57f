"""What the verbs of `agentrl grader` have in common: arguments, the servers that a grader may need, what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.config import GradingConfig, RunConfig

GraderPath = Annotated[
    Path, typer.Argument(metavar="GRADER", help="A grader alone (YAML or JSON), or the config of a run.")
]
AtOnce = Annotated[int, typer.Option("--at-once", min=1, help="Most answers with the grader at any time.")]


@contextmanager
def served(grading: GradingConfig, run: RunConfig | None) -> Iterator[str]:
    """What `{serve}` stands for: the servers of the run's `tools.serve` live inside, where the grader may be one."""
    from agentrl.tools.serve import serving

    if run is None or run.tools is None or not grading.endpoints:
        yield ""
        return
    values = {"data.path": run.data.path} if run.data and run.data.path else {}
    with serving(run.tools.serve, values) as urls:
        yield urls[0] if urls else ""


def spent(tokens: Mapping[str, Mapping[str, int]], cost_usd: float | None) -> str:
    """What judges cost, by model; None where they have no price."""
    total = sum(each.get("prompt", 0) + each.get("completion", 0) for each in tokens.values())
    price = "not known, no prices declared" if cost_usd is None else f"{cost_usd:.4f} USD"
    return f"{price}; {total:,} tokens ({printable(', '.join(tokens))})"
