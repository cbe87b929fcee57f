"""A probe's report as plain text: what `agentrl probe` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.probe.best_of import Estimate
from agentrl.evaluation.probe.picture import BAND, BEST, MEAN, picture_lines
from agentrl.evaluation.probe.planned import PlannedFigure
from agentrl.evaluation.probe.report import ProbeReport, SplitFigures
from agentrl.printable import printable
from agentrl.progress import duration

WIDTH = 110
PLANNED = ("episodes", "tool_calls", "sampled_tokens", "prompt_tokens", "hours", "usd")
NOTHING = "-"


def report_lines(report: ProbeReport) -> Iterator[str]:
    """The pictures, the figures, and last, where it is read, the verdict with its reasons."""
    for split in report.splits:
        yield f"{split.split}, {split.n_items} items x {report.samples}, sorted by mean score"
        yield from picture_lines(report.items_of(split.split))
    yield f"      {MEAN} mean  {BAND} one deviation  {BEST} best of {report.samples}"
    yield ""
    yield from _table(report)
    yield ""
    for name, said in figures(report):
        yield from textwrap.wrap(
            f"{name:<12}{printable(said)}", WIDTH, subsequent_indent=" " * 12, break_on_hyphens=False
        )
    yield ""
    yield f"verdict: {report.verdict}"
    for reason in report.reasons:
        head = f"  {reason.weight:<11}{reason.code}: {printable(reason.text)}."
        yield from textwrap.wrap(head, WIDTH, subsequent_indent=" " * 13, break_on_hyphens=False)
        yield from textwrap.wrap(printable(reason.advice), WIDTH, initial_indent=" " * 13, subsequent_indent=" " * 13)


def rows(report: ProbeReport) -> list[tuple[str, list[str]]]:
    """Figures by split: name, and a cell for each split."""
    samples, splits = report.samples, report.splits
    found = [
        ("mean score", [_shown(split.mean) for split in splits]),
        (f"best of {samples}", [_shown(split.best_of.best if split.best_of else None) for split in splits]),
        ("headroom", [_shown(split.best_of.headroom if split.best_of else None) for split in splits]),
        ("items that vary", [_share(split) for split in splits]),
    ]
    for k in range(1, samples + 1):
        found.append((f"pass@{k}", [_shown(split.passes["pass_at_k"].get(k)) for split in splits]))
    found += [
        (f"pass^{k}", [_shown(split.passes["pass_hat_k"].get(k)) for split in splits]) for k in range(2, samples + 1)
    ]
    return found


def figures(report: ProbeReport) -> Iterator[tuple[str, str]]:
    """What is of no split: a word, and a sentence."""
    if report.shares:
        planned = report.planned_samples
        expected = "; ".join(
            f"{size}{' (planned)' if size == planned else ''}: {percent(share.value)} {span(share.interval)}"
            for size, share in report.shares.items()
        )
        yield "groups", f"items expected to vary by samples_per_task: {expected}"
    if report.advice is not None:
        verb = "keep" if report.advice.samples_per_task == report.planned_samples else "set"
        yield "advice", f"{verb} ppo.samples_per_task: {report.advice.samples_per_task}, as {report.advice.reason}"
    if (noise := report.repeatability) is not None:
        real = ""
        if noise.reliability is not None:
            value, interval = noise.reliability.value, noise.reliability.interval
            real = f"; {percent(value)} {span(interval)} of what an item's scores differ by is real"
        yield (
            "grader",
            f"{noise.n_answers} answers graded {noise.grades} times: sigma {noise.sigma:.3f}, {noise.changed} changed "
            f"their score (at most {percent(noise.changed_interval.high)}), {noise.flips} passed and failed{real}",
        )
    conduct = report.conduct
    errors = f", {percent(conduct.tool_error_fraction)} {span(conduct.tool_error_interval)} answered with an error"
    yield (
        "tools",
        f"{conduct.calls_per_episode:.1f} calls an episode{errors if conduct.tool_calls else ''}{_leaks(report)}",
    )
    broken = ", ".join(f"{count} by {name}" for name, count in conduct.failure_classes.items())
    yield (
        "lost",
        f"{conduct.lost} of {conduct.rollouts} rollouts {span(conduct.lost_interval)}{f': {broken}' if broken else ''}",
    )
    if (effect := report.effect) is not None:
        yield (
            "validation",
            f"{effect.n_items} items x {effect.samples} show a gain of {effect.alike:.3f} if all items gain alike, of "
            f"{effect.uneven:.3f} if they do not (80% power, two-sided 5%)",
        )
    else:
        yield "validation", "which gain it can show is not known: no score differed from another, or no item had two"
    if report.plan is not None:
        yield "the run", "; ".join(_planned(report.plan[name]) for name in PLANNED)
    elif report.unplanned:
        yield "the run", f"no forecast: {report.unplanned}"
    cost = f", {conduct.cost_usd:.4f} USD" if conduct.cost_usd else ""
    yield "this probe", f"{duration(report.seconds)}{cost}"


def _leaks(report: ProbeReport) -> str:
    found = report.tools
    if found is None or not found.calls:
        return ""
    leaking = f"answers leaked by {', '.join(found.tools)}" if found.tools else "none tells answers unasked"
    unknown = f" (not known of {', '.join(found.unobserved)})" if found.unobserved else ""
    return f"; {leaking}{unknown}"


def _planned(found: PlannedFigure) -> str:
    figure, (low, high) = found.figure, found.interval
    if figure.name == "hours":
        return f"{duration(3600 * figure.value)} ({duration(3600 * low)} to {duration(3600 * high)})"
    is_exact = high - low <= 1e-9 * max(1.0, abs(figure.value))
    around = "" if is_exact else f" ({large(low)} to {large(high)})"
    name = {"usd": "USD"}.get(figure.name, figure.name.replace("_", " "))
    return f"{large(figure.value)}{around} {name}"


def _table(report: ProbeReport) -> Iterator[str]:
    cells = [("", [split.split for split in report.splits]), *rows(report)]
    widths = [max(len(row[column]) for _, row in cells) for column in range(len(report.splits))]
    for name, row in cells:
        yield "  ".join(
            [f"{name:<16}", *(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))]
        ).rstrip()


def _share(split: SplitFigures) -> str:
    found = split.groups
    return f"{found.varied} of {found.n_items} {span(found.interval)}" if found.n_items else NOTHING


def _shown(found: Estimate | None) -> str:
    return NOTHING if found is None else str(found)


def percent(value: float) -> str:
    """One decimal below ten per cent, and for what is almost all."""
    scaled = 100 * value
    return f"{scaled:.1f}%" if 0 < abs(scaled) < 10 or 99 < scaled < 99.95 else f"{scaled:.0f}%"


def span(interval: Interval | None) -> str:
    return "" if interval is None else f"({percent(interval.low)} to {percent(interval.high)})"


def large(value: float) -> str:
    """Thousands with commas, small ones with three digits."""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.3g}"
