"""The comparison in short: for a terminal, and as Markdown for a pull request."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from agentrl.evaluation.comparison.layout import brief, verdict
from agentrl.evaluation.comparison.patterns import PatternChange
from agentrl.evaluation.comparison.policies import PolicyComparison
from agentrl.evaluation.comparison.words import (
    COLUMNS,
    ROWS,
    allowed_lines,
    habit,
    lost_sentence,
    side_sentence,
    size,
    test_sentences,
    warnings,
)
from agentrl.evaluation.intervals import RESAMPLES, SEED
from agentrl.evaluation.table import format_rows
from agentrl.printable import printable

WIDTH = 96
SHOWN_HABITS = 6
NOTE = (
    f"95 % intervals: percentile bootstrap over items, paired ({RESAMPLES:,} resamples, seed {SEED}), each of one "
    "figure; reward and rates in absolute terms, the rest in % of A."
)


def to_text(comparison: PolicyComparison) -> str:
    """For a terminal: no escape sequence of a name passes."""
    return "\n".join(printable(line) for line in _text(comparison))


def _text(comparison: PolicyComparison) -> Iterator[str]:
    for name, evaluation in zip("AB", (comparison.a, comparison.b), strict=True):
        yield f"{name}  {side_sentence(evaluation)}"
    if differing := allowed_lines(comparison):
        yield "more than the policy differs, which was allowed:"
        yield from (f"   {line}" for line in differing)
    yield ""
    _, sentence = verdict(comparison)
    yield from textwrap.wrap(" ".join([sentence, *test_sentences(comparison)]), WIDTH)
    for each in warnings(comparison):
        yield from textwrap.wrap(each, WIDTH)
    yield ""
    yield from format_rows(size(comparison), ("A", "B", "change", "95 % interval"), brief(comparison))
    yield ""
    counts = comparison.quadrants()
    yield f"{'items':<16}{''.join(f'{label:>14}' for label in COLUMNS.values())}"
    for reward, label in ROWS.items():
        row = (counts[f"{reward}_{calls}"] for calls in COLUMNS)
        yield f"{label:<16}{''.join(f'{count:>14}' for count in row)}"
    yield ""
    if rows := _habits(comparison):
        yield from textwrap.wrap(f"clear changes of habit, times an episode: {'; '.join(map(habit, rows))}", WIDTH)
    for name, losses in zip("AB", comparison.losses, strict=True):
        if losses.lost:
            yield from textwrap.wrap(f"{name}: {lost_sentence(losses)}", WIDTH)
    if comparison.pairs.left_out:
        yield f"{len(comparison.pairs.left_out)} items are not compared: {_reasons(comparison)}"
    yield from textwrap.wrap(NOTE, WIDTH)


def _habits(comparison: PolicyComparison) -> list[PatternChange]:
    """The clearest of sequences and loops."""
    rows = [row for kind in ("tool_2grams", "tool_3grams") for row in comparison.patterns[kind].rows if row.is_clear]
    return sorted(rows, key=lambda row: -abs(row.per_episode.change))[:SHOWN_HABITS]


def _reasons(comparison: PolicyComparison) -> str:
    reasons = list(comparison.pairs.left_out.values())
    return ", ".join(f"{reason} ({reasons.count(reason)})" for reason in dict.fromkeys(reasons))


def to_markdown(comparison: PolicyComparison) -> str:
    """For a pull request: the verdict, the table, the quadrants, and what to be careful about."""
    return "\n".join(_markdown(comparison)) + "\n"


def _markdown(comparison: PolicyComparison) -> Iterator[str]:
    kind, sentence = verdict(comparison)
    mark = {"better": "better", "worse": "worse"}.get(kind, "no clear change")
    yield f"### B against A: {mark}"
    yield ""
    for name, evaluation in zip("AB", (comparison.a, comparison.b), strict=True):
        yield f"- {name}: {code(side_sentence(evaluation))}"
    for line in allowed_lines(comparison):
        yield f"- **allowed to differ**: {code(line)}"
    yield ""
    yield " ".join([sentence, *test_sentences(comparison)])
    yield ""
    for each in warnings(comparison):
        yield f"> **Warning** {code(each)}"
        yield ""
    yield "| | A | B | change | 95 % interval |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for row in brief(comparison):
        label = f"&nbsp;&nbsp;{code(row.label)}" if row.is_detail else row.label
        if row.label.startswith("hold-out "):
            label = f"hold-out {code(row.label.removeprefix('hold-out '))}"
        yield f"| {label} | {row.baseline} | {row.candidate} | **{row.change}** | {row.interval} |"
    yield ""
    counts = comparison.quadrants()
    yield f"| {comparison.n_items} items | {' | '.join(COLUMNS.values())} |"
    yield "| --- | ---: | ---: | ---: |"
    for reward, label in ROWS.items():
        yield f"| {label} | {' | '.join(str(counts[f'{reward}_{calls}']) for calls in COLUMNS)} |"
    yield ""
    if rows := _habits(comparison):
        yield f"Clear changes of habit, times an episode: {'; '.join(code(habit(row)) for row in rows)}."
        yield ""
    for name, losses in zip("AB", comparison.losses, strict=True):
        if losses.lost:
            yield f"{name}: {lost_sentence(losses)}"
            yield ""
    if comparison.pairs.left_out:
        yield f"{len(comparison.pairs.left_out)} items are not compared: {code(_reasons(comparison))}."
        yield ""
    yield f"<sub>{NOTE}</sub>"


def code(value: str) -> str:
    """As a code span, in which a name cannot be a link, a mention, a tag or the end of a table's cell."""
    plain = printable(value).replace("`", "'").replace("|", "\\|").strip()
    return f"`{plain or ' '}`"
