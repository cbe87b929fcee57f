"""How a long job says how far it is: a live bar on a terminal, plain lines in a log, nothing in a test.

All of it goes to stderr; stdout is for results.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from agentrl.printable import printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOWN = (
    ("reward_train", "reward", ".3f"),
    ("kl_per_token", "KL", ".4f"),
    ("tool_calls", "calls/episode", ".1f"),
    ("train_loss", "loss", ".4f"),
    ("reward_margin", "margin", ".3f"),
)
"""Metrics that a line shows, where the step has them: key in metrics.jsonl, label, format. KL is in nats per token."""


class Reporter(Protocol):
    """What a long job tells about itself."""

    def phase(self, text: str) -> None:
        """A new part of the job begins."""
        ...

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None:
        """Step `step` of `total` (counted from 1) is done, with these figures."""
        ...

    def message(self, text: str) -> None:
        """Something worth a line."""
        ...

    def close(self) -> None:
        """The job is over, well or not. Closing twice is fine."""
        ...


class SilentReporter:
    """Says nothing."""

    def phase(self, text: str) -> None:
        del text

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None:
        del step, total, metrics

    def message(self, text: str) -> None:
        del text

    def close(self) -> None:
        pass


class QuietReporter:
    """One plain line an event, for logs and CI."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._left = TimeLeft()

    def phase(self, text: str) -> None:
        self._left = TimeLeft()
        self._line(text)

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None:
        self._line("  ".join([f"step {step}/{total}", *figures(metrics), f"{self._left.after(step, total)} left"]))

    def message(self, text: str) -> None:
        self._line(text)

    def close(self) -> None:
        pass

    def _line(self, text: str) -> None:
        # looked up late: whoever captures stderr replaces it after this object is made
        print(printable_lines(text), file=self._stream or sys.stderr, flush=True)


class LiveReporter:
    """A bar that moves in place: step, reward, KL, calls per episode, time left."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(file=stream or sys.stderr)
        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=False,
            refresh_per_second=2,  # drawing takes time from the training beside it
        )
        self._task: TaskID | None = None
        self._left = TimeLeft()

    def phase(self, text: str) -> None:
        self._finish_bar()
        self._left = TimeLeft()
        self._console.print(printable_lines(text), markup=False, highlight=False)

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None:
        text = "  ".join([*figures(metrics), f"{self._left.after(step, total)} left"])
        if self._task is None:
            self._task = self._progress.add_task("step", total=total, figures=text)
            self._progress.start()
        self._progress.update(self._task, completed=step, total=total, figures=text)

    def message(self, text: str) -> None:
        self._console.print(printable_lines(text), markup=False, highlight=False)

    def close(self) -> None:
        self._finish_bar()

    def _finish_bar(self) -> None:
        if self._task is not None:
            self._progress.stop()  # leaves the last state of the bar on the screen
            self._progress.remove_task(self._task)
            self._task = None


class Tally:
    """Counts many small things as each is done, and says so at the first, the last, and some ten times between.

    Args:
        done: so many were done before, by somebody else.
    """

    TOLD = 10

    def __init__(self, reporter: Reporter, total: int, *, done: int = 0) -> None:
        self._reporter, self._total, self._done = reporter, total, done
        self._first, self._every = done + 1, max(1, total // self.TOLD)

    def __call__(self, _: object = None) -> None:
        self._done += 1
        is_told = self._done in (self._first, self._total) or self._done % self._every == 0
        if is_told and self._done <= self._total:  # of what failed, some is done again
            self._reporter.step(self._done, self._total, {})


class TimeLeft:
    """How long the remaining steps take at the pace so far; a resumed run counts its own steps only."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._first: int | None = None

    def after(self, step: int, total: int) -> str:
        if self._first is None:
            self._first = step - 1
        pace = (time.monotonic() - self._start) / max(1, step - self._first)
        return duration(pace * max(0, total - step))


def duration(seconds: float) -> str:
    """For people: 42 s, 3 min 10 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def figures(metrics: dict[str, float]) -> list[str]:
    """The metrics of a line, `reward 0.612`, those that the step has."""
    known = [(label, metrics[key], form) for key, label, form in SHOWN if key in metrics]
    return [f"{label} {value:{form}}" if math.isfinite(value) else f"{label} -" for label, value, form in known]


def reporter_for(stream: TextIO | None = None) -> Reporter:
    """A live bar where someone is looking, quiet lines where not."""
    return LiveReporter(stream) if (stream or sys.stderr).isatty() else QuietReporter(stream)
