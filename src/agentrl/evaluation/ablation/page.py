"""ablation.html: the worth of each kind of turn as a picture and a table, and the turns themselves; works offline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agentrl.evaluation.ablation.cuts import Part
from agentrl.evaluation.ablation.figures import Group, trial_means
from agentrl.evaluation.ablation.lines import HEAD, cells, label
from agentrl.evaluation.ablation.trials import Trial
from agentrl.evaluation.documents import table, text, whole_page
from agentrl.types import Rollout

if TYPE_CHECKING:
    from agentrl.evaluation.ablation.result import Ablation

SHOWN = 5
"""Turns of each kind that are shown whole."""
MAX_CHARS = 2000
ROW, LEFT, RIGHT, WIDTH = 26, 170, 16, 460  # of the picture, in its own units
MORE_CSS = """
.chart { max-width: 580px; }
svg .label { fill: var(--text); font-size: 13px; } svg .span { stroke: var(--c); stroke-width: 2; }
svg .needed { --c: var(--bad); } svg .harmful { --c: var(--good); } svg .useless { --c: var(--quiet); }
svg .unclear { --c: var(--quiet); } svg .unclear .span { stroke-opacity: .4; stroke-dasharray: 4 3; }
svg .unclear .mark { fill: var(--page); stroke: var(--quiet); }
tr.all th { font-weight: 600; }
h3 { margin-top: 20px; } details.turn { margin-top: 8px; }
details.turn > summary { cursor: pointer; overflow-wrap: anywhere; }
"""


def page(ablation: Ablation) -> str:
    """The whole page."""
    body = f"{_header(ablation)}{_picture(ablation)}{_table(ablation)}{_turns(ablation)}"
    return whole_page(f"{ablation.name}: agentrl ablate", body, MORE_CSS)


def _header(ablation: Ablation) -> str:
    facts = "".join(f"<span>{text(fact)}</span>" for fact in ablation.facts)
    said = "".join(f"<p>{text(sentence)}</p>" for sentence in sentences(ablation))
    return (
        f'<header><h1>{text(ablation.name)}: what its turns are worth</h1><p class="facts">{facts}</p>'
        f'<div class="verdict">{said}</div></header>'
    )


def sentences(ablation: Ablation) -> Iterable[str]:
    """One for each verdict that some tool's part has."""
    decided = [group for group in ablation.groups if group.by == "tool" and group.verdict != "unclear"]
    for verdict, saying in (
        ("needed", "Reward is lost without {}."),
        ("useless", "Nothing is lost without {}."),
        ("harmful", "Reward is higher without {}."),
    ):
        if names := [f"the {_whose(group)}" for group in decided if group.verdict == verdict]:
            yield saying.format(", ".join(names))
    if not decided:
        yield "No part of any tool's turns is known to be needed or useless: run more items or samples."


def _whose(group: Group) -> str:
    return f"output of {group.name}" if group.part is Part.OBSERVATION else f"thought before {group.name}"


def _picture(ablation: Ablation) -> str:
    """The change of reward of every group, with its interval."""
    groups = ablation.groups
    if not groups:
        return ""
    ends = [end for group in groups for end in (group.changes["reward"].interval or (group.changes["reward"].change,))]
    low, high = min(*ends, -0.1), max(*ends, 0.1)

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    height = ROW * len(groups) + 24
    lines = [f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="{height - 20}"></line>']
    for value in (low, 0.0, high):
        lines.append(f'<text x="{x(value):.1f}" y="{height - 4}" text-anchor="middle">{value:+.2f}</text>')
    for row, group in enumerate(groups):
        y, change = ROW * row + ROW / 2, group.changes["reward"]
        span = change.interval or (change.change, change.change)
        name = label(group).strip()
        tip = f"{name}: {change.change:+.3f} [{span[0]:+.3f}, {span[1]:+.3f}], {group.verdict}"
        lines.append(
            f'<g class="{group.verdict}"><title>{text(tip)}</title>'
            f'<text class="label" x="{14 * (group.by != "all")}" y="{y + 4:.1f}">{text(name[:26])}</text>'
            f'<line class="span" x1="{x(span[0]):.1f}" x2="{x(span[1]):.1f}" y1="{y:.1f}" y2="{y:.1f}"></line>'
            f'<circle class="mark" cx="{x(change.change):.1f}" cy="{y:.1f}" r="4.5"></circle></g>'
        )
    what = "change of reward where the part is removed, with 95 % intervals"
    return (
        f'<h2>What is lost without it</h2><figure class="chart"><figcaption>{text(what.capitalize())}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(what)}">{"".join(lines)}</svg></figure>'
    )


def _table(ablation: Ablation) -> str:
    rows = ""
    for group in ablation.groups:
        kind = "all" if group.by == "all" else "detail"
        columns = "".join(f"<td>{text(cell)}</td>" for cell in cells(group))
        rows += f'<tr class="{kind}"><th scope="row">{text(label(group).strip())}</th>{columns}</tr>'
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in ablation.notes)
    return f"<h2>By tool and by place</h2>{table('by tool and by place', ('', *HEAD), rows)}{notes}"


def _turns(ablation: Ablation) -> str:
    """Of each part and tool the turns whose part was worth most, with what was removed and what came of it."""
    parts = ""
    for group in ablation.groups:
        if group.by != "tool":
            continue
        of_group = [t for t in ablation.trials if t.pairs and (t.part, t.cut.tools) == (group.part, group.name)]
        measured = [(trial, *trial_means(trial, ablation.pass_threshold)) for trial in of_group]
        measured.sort(key=lambda each: each[2][0] - each[1][0])
        turns = "".join(_turn(trial, controls[0], without[0]) for trial, controls, without in measured[:SHOWN])
        parts += f"<h3>{text(_whose(group).capitalize())}</h3>{turns}"
    if not parts:
        return ""
    note = (
        f"Of each kind the {SHOWN} turns whose removal cost most. What one turn shows rests on a few samples: a hint."
    )
    return f'<h2>Turns</h2><p class="note">{text(note)}</p>{parts}'


def _turn(trial: Trial, control: float, without: float) -> str:
    cut, (kept, lost) = trial.cut, trial.pairs[0]
    title = (
        f"{without - control:+.3f}: turn {cut.index + 1} of task {cut.rollout.task.id}, {control:.3f} with it, "
        f"{without:.3f} without, {len(trial.pairs)} pairs"
    )
    outputs = "\n\n".join(result.output for result in cut.turn.tool_results)
    blocks = {
        "calls": "\n".join(f"{call.name} {call.arguments}" for call in cut.turn.tool_calls),
        f"{trial.part.value} that was removed": outputs if trial.part is Part.OBSERVATION else cut.turn.text,
        "the first episode that went on with it": _after(kept, cut.index),
        "the first that went on without it": _after(lost, cut.index),
    }
    said = "".join(
        f'<div class="said"><b>{text(label)}</b><pre>{text(_short(content))}</pre></div>'
        for label, content in blocks.items()
    )
    return f'<details class="turn"><summary>{text(title)}</summary>{said}</details>'


def _after(rollout: Rollout, index: int) -> str:
    said = [turn.text.strip() for turn in rollout.turns[index + 1 :]]
    return "\n\n".join([*said, f"[{rollout.stop_reason.value}, reward {rollout.grade.score:g}]"])


def _short(content: str) -> str:
    more = len(content) - MAX_CHARS
    return content if more <= 0 else f"{content[:MAX_CHARS]}\n[{more:,} more characters]"
