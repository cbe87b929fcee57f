"""The comparison as one page that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.evaluation.comparison.episodes import episodes_section
from agentrl.evaluation.comparison.figures import Figure
from agentrl.evaluation.comparison.items import ItemChange
from agentrl.evaluation.comparison.layout import Line, lines, p_value, verdict
from agentrl.evaluation.comparison.losses import Losses
from agentrl.evaluation.comparison.patterns import PatternChange, PatternChanges
from agentrl.evaluation.comparison.policies import PolicyComparison
from agentrl.evaluation.comparison.style import MORE_CSS
from agentrl.evaluation.comparison.words import (
    COLUMNS,
    PATTERNS,
    ROWS,
    allowed_lines,
    lost_sentence,
    method_notes,
    side_sentence,
    test_sentences,
    warnings,
)
from agentrl.evaluation.documents import table, text, whole_page
from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.table import format_change, format_level

MAX_ITEMS = 400
"""Items that the page lists, those that changed most first; compare.json has all."""
MAX_PATTERNS = 12


def to_html(comparison: PolicyComparison, *, episodes: int) -> str:
    """The whole page, with an episode of either policy for this many items."""
    title = f"{comparison.b.name} against {comparison.a.name}"
    body = "".join(
        [
            _header(comparison),
            _quadrants(comparison),
            _figures(comparison),
            _patterns(comparison),
            _losses(comparison),
            _tags(comparison),
            episodes_section(comparison, episodes),
            _items(comparison),
            "<h2>How it is reckoned</h2>",
            *(f'<p class="note">{text(note)}</p>' for note in method_notes(comparison)),
        ]
    )
    return whole_page(title, f"<main>{body}</main>", MORE_CSS)


def _header(comparison: PolicyComparison) -> str:
    kind, sentence = verdict(comparison)
    sides = "".join(
        f"<li><b>{name}</b> {text(side_sentence(evaluation))}</li>"
        for name, evaluation in zip("AB", (comparison.a, comparison.b), strict=True)
    )
    said = "".join(f"<p>{text(each)}</p>" for each in (sentence, *test_sentences(comparison), *warnings(comparison)))
    page = f'<header><h1>Comparison of two policies</h1><ul class="sides">{sides}</ul>'
    page += f'<div class="verdict {kind}">{said}</div>'
    if differing := allowed_lines(comparison):
        found = "".join(f"<li>{text(each)}</li>" for each in differing)
        page += (
            f'<div class="allowed"><p><b>More than the policy differs, which was allowed:</b></p><ul>{found}</ul></div>'
        )
    return page + "</header>"


def _figures(comparison: PolicyComparison) -> str:
    body = ""
    for group, found in lines(comparison).items():
        if found:
            body += f'<tr class="group"><th scope="colgroup" colspan="4">{text(group)}</th></tr>'
            body += "".join(map(_figure_row, found))
    return f"<h2>Figures</h2>{table('figures', ('', 'A', 'B', 'change'), body, kind='figures')}"


def _figure_row(line: Line) -> str:
    row, figure = line.row, line.figure
    ends = row.interval.replace(" pp", "").replace(" %", "")
    interval = f" <small>{text(ends)}</small>" if row.interval != "n/a" else ""
    return (
        f'<tr{" class=detail" if row.is_detail else ""}><th scope="row">{text(row.label)}</th>'
        f"<td>{text(row.baseline)}{_of_level(figure.baseline_interval, line.unit)}</td>"
        f"<td>{text(row.candidate)}{_of_level(figure.candidate_interval, line.unit)}</td>"
        f'<td class="{row.verdict}"><b>{text(row.change)}</b>{interval}</td></tr>'
    )


def _of_level(interval: Interval | None, unit: str) -> str:
    if interval is None:
        return ""
    low, high = (format_level(end, unit).removesuffix(" %") for end in interval)
    return f" <small>[{text(low)}, {text(high)}]</small>"


def _quadrants(comparison: PolicyComparison) -> str:
    shares = comparison.quadrant_shares()
    marks = {"better_fewer": "best", "worse_more": "worst"}
    body = ""
    for reward, label in ROWS.items():
        cells = ""
        for calls in COLUMNS:
            share = shares[f"{reward}_{calls}"]
            mark = marks.get(f"{reward}_{calls}", "") if share.count else ""
            low, high = (100 * end for end in share.interval)
            cells += f'<td class="{mark}">{share.count} <small>[{low:.0f}, {high:.0f}] %</small></td>'
        body += f'<tr><th scope="row">{label}</th>{cells}</tr>'
    counted = table("items by quadrant", ("items", *COLUMNS.values()), body, kind="quadrants")
    note = (
        f'<p class="note">All {comparison.n_items} items by what became of their reward and their tool calls, with '
        "Wilson's 95 % interval of each share. In the plot a point is as large as the items in it are many.</p>"
    )
    plots = "".join(
        plot.figure for plot in (comparison.quadrant_plot(), comparison.latency_plot(), comparison.tool_plot())
    )
    return f'<h2>Items</h2><div class="two">{plots}<div>{counted}{note}</div></div>'


def _patterns(comparison: PolicyComparison) -> str:
    tables = "".join(_pattern_table(PATTERNS[kind], each) for kind, each in comparison.patterns.items())
    return f'<h2>Habits</h2><div class="pair">{tables}</div>'


def _pattern_table(title: str, changes: PatternChanges) -> str:
    note = f"{changes.looks} looked at; p allows for all of them (Holm)." if changes.rows else "None to look at."
    if changes.passed_over:
        note += f" {changes.passed_over} too rare to look at."
    if not changes.rows:
        return f'<div><p><b>{text(title)}</b></p><p class="note">{text(note)}</p></div>'
    body = "".join(map(_pattern_row, changes.rows[:MAX_PATTERNS]))
    if len(changes.rows) > MAX_PATTERNS:
        note += f" {len(changes.rows) - MAX_PATTERNS} more stand in compare.json."
    shown = table(title, ("", "A", "B", "change an episode", "p"), body, has_caption=True)
    return f'<div>{shown}<p class="note">{text(note)}</p></div>'


def _pattern_row(row: PatternChange) -> str:
    clear = " class=clear" if row.is_clear else ""
    return (
        f'<tr><th scope="row">{text(" › ".join(row.tools))}</th><td>{row.counts[0]}</td><td>{row.counts[1]}</td>'
        f"<td{clear}>{_with_interval(row.per_episode, 'count')}</td><td{clear}>{text(p_value(row.p_holm))}</td></tr>"
    )


def _with_interval(figure: Figure, unit: str) -> str:
    shown = text(format_change(figure.change, unit))
    if figure.change_interval is None:
        return shown
    low, high = (text(format_change(end, unit)) for end in figure.change_interval)
    return f"{shown} <small>[{low}, {high}]</small>"


def _losses(comparison: PolicyComparison) -> str:
    if not any(each.lost for each in comparison.losses) and not comparison.pairs.left_out:
        return '<h2>Losses</h2><p class="note">Every episode has a grade, and every item is on both sides.</p>'
    body = "".join(_loss_row(name, each) for name, each in zip("AB", comparison.losses, strict=True))
    reasons = list(comparison.pairs.left_out.values())
    left_out = "; ".join(f"{reasons.count(each)} items: {each}" for each in dict.fromkeys(reasons))
    heads = ("", "lost", "of", "items hit", "items lost", "reward of hit items", "of others", "difference")
    return (
        f"<h2>Losses</h2>{table('losses', heads, body)}"
        + "".join(
            f'<p class="note">{name}: {text(lost_sentence(each))}</p>'
            for name, each in zip("AB", comparison.losses, strict=True)
        )
        + (f'<p class="note">Not compared: {text(left_out)}.</p>' if left_out else "")
        + '<p class="note">Rewards here are what the other policy scored on those items.</p>'
    )


def _loss_row(name: str, losses: Losses) -> str:
    interval = losses.difference_interval
    ends = "" if interval is None else f" <small>[{interval.low:+.3f}, {interval.high:+.3f}]</small>"
    rewards = (format_level(each, "score") for each in (losses.reward_of_hit, losses.reward_of_others))
    cells = (losses.lost, losses.rollouts, losses.items_hit, losses.items_lost, *rewards)
    return (
        f'<tr><th scope="row">{name}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in cells)
        + f"<td>{text(format_change(losses.difference, 'score'))}{ends}</td></tr>"
    )


def _tags(comparison: PolicyComparison) -> str:
    tags = comparison.tags
    if not tags.rows:
        return ""
    body = "".join(
        f'<tr><th scope="row">{text(row.tag)}</th><td>{row.reward.n_items}</td>'
        f"<td>{format_level(row.reward.baseline, 'score')}</td><td>{format_level(row.reward.candidate, 'score')}</td>"
        f"<td>{_with_interval(row.reward, 'score')}</td><td>{text(p_value(row.p_holm))}</td>"
        f"<td>{_with_interval(row.success_rate, 'share')}</td><td>{_with_interval(row.tool_calls, 'count')}</td></tr>"
        for row in tags.rows
    )
    heads = ("tag", "items", "reward A", "reward B", "change", "p", "change of success", "change of calls")
    note = (
        f"{tags.looks} subsets, and {tags.untagged} items without a tag. p is of the reward, and allows for all subsets"
    )
    return (
        f"<h2>By tag</h2>{table('subsets by tag', heads, body)}"
        f'<p class="note">{note} (Holm); the intervals are of one subset each.</p>'
    )


def _items(comparison: PolicyComparison) -> str:
    shown: Sequence[ItemChange] = comparison.most_changed(comparison.n_items)
    rest = {each.task_id for each in shown}
    shown = [*shown, *(item for item in comparison.items if item.task_id not in rest)][:MAX_ITEMS]
    cut = f"; the {MAX_ITEMS} that changed most of {comparison.n_items}" if len(shown) < comparison.n_items else ""
    body = "".join(
        f'<tr><th scope="row">{text(item.task_id)}</th><td>{item.reward[0]:.3g}</td><td>{item.reward[1]:.3g}</td>'
        f"<td>{item.tool_calls[0]:.3g}</td><td>{item.tool_calls[1]:.3g}</td>"
        f"<td>{item.latency_seconds[0]:.3g}</td><td>{item.latency_seconds[1]:.3g}</td></tr>"
        for item in shown
    )
    heads = ("item", "reward A", "reward B", "calls A", "calls B", "seconds A", "seconds B")
    return (
        f'<details class="part"><summary>Every item <small>means over episodes{cut}</small></summary>'
        f"{table('every item', heads, body)}</details>"
    )
