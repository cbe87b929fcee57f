"""Trainable, weak, or not: the rules, each with its threshold and where that comes from.

A rule fires where a 95 % interval lies beyond its threshold, not where a point does. What the data cannot decide is
said to be undecided (`unmeasured`), never to be good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.judge_noise import MAX_SIGMA
from agentrl.evaluation.probe.best_of import BestOf, Estimate
from agentrl.evaluation.probe.groups import Groups
from agentrl.evaluation.probe.leaks import ToolLeaks
from agentrl.evaluation.probe.power import SmallestEffect
from agentrl.evaluation.probe.repeatability import Repeatability
from agentrl.evaluation.probe.twins import Twins

Verdict = Literal["trainable", "weak", "not", "unmeasured"]
Weight = Literal["trainable", "not", "unmeasured", "weak", "note"]

DEAD_SHARE = 0.05
"""Of items that vary. With fewer, more than 95 % of the groups teach nothing: where training stops, see
`ppo.guards.max_zero_variance_fraction`."""
FEW_SHARE = 0.15
"""Of items that varied with three samples in OpenAI's demonstration of Agent RFT, which did learn; less is slow."""
WIDE_SHARE = 0.30
"""An interval from below DEAD_SHARE to above this says nothing."""
FULL, NEARLY_FULL = 0.95, 0.90
"""Mean score, as a share of the range, from which too little is left to gain; a task that a baseline fails in fewer
than one case in ten is too easy (advice for hosted RFT)."""
NOISE_HALF = 0.5
"""Reliability below which more than half of the difference between two answers is the grader's noise."""
LOST_NOTE = 0.02
"""Of rollouts without a vote."""
SPLIT_GAP = 0.10
"""Between the mean scores of train and validation: the gap at which hosted RFT's advice is to stop."""
TWINS = 0.01
"""Of validation questions that training nearly asks, too."""
FIRST_OUTPUT = 0.5
"""Of episodes whose first tool output holds the answer."""


@dataclass(frozen=True)
class Reason:
    """One thing that bears on the verdict."""

    code: str
    weight: Weight
    """The verdict that it leads to by itself; a note leads to none."""
    text: str
    advice: str
    """What to do about it."""


@dataclass(frozen=True)
class Evidence:
    """All that the rules look at; None is what could not be measured."""

    rollouts: int
    lost: int
    """Rollouts without a vote."""
    max_lost: float
    """Of them, as a share: `ppo.guards.max_ungraded_fraction`."""
    first_loss: str
    """What broke the first of them."""
    mean: Estimate | None
    best_of: BestOf | None
    groups: Groups
    samples: int
    repeatability: Repeatability | None
    unrepeated: str
    """Why answers were not graded again; empty where they were."""
    split_gap: Interval | None
    """Train less validation, of mean scores."""
    effect: SmallestEffect | None
    tools: ToolLeaks | None
    twins: Twins | None
    first_output: Estimate | None
    """Share of episodes whose first tool output holds the answer."""


def judge(evidence: Evidence) -> tuple[Verdict, tuple[Reason, ...]]:
    """The verdict, and all that speaks for it, the heaviest first."""
    order = ("not", "unmeasured", "weak", "note")
    found = [*_leaks(evidence), *_infrastructure(evidence)]
    if not any(reason.weight == "unmeasured" for reason in found):
        noise = [*_noise(evidence)]
        # where scores are noise, what they say of differences and gains is noise as well
        more = [] if codes(noise, "not") else [*_differences(evidence), *_validation(evidence)]
        found += [*_signal(evidence), *noise, *more]
    found.sort(key=lambda reason: order.index(reason.weight))
    if not found or found[0].weight == "note":
        return "trainable", (_learnable(evidence), *found)
    return found[0].weight, tuple(found)


def _learnable(found: Evidence) -> Reason:
    share, best = found.groups.interval, found.best_of
    text = (
        f"{found.groups.varied} of {found.groups.n_items} items vary over {found.samples} samples ({share.low:.0%} to "
        f"{share.high:.0%} of all), and the best of them lies {best.headroom if best else ''} above the mean"
    )
    return Reason("learnable", "trainable", text, "Train.")


def _infrastructure(found: Evidence) -> Iterator[Reason]:
    share = found.lost / found.rollouts if found.rollouts else 1.0
    said = f"{found.lost} of {found.rollouts} rollouts have no score"
    why = f" ({found.first_loss})" if found.first_loss else ""
    if share > found.max_lost or found.mean is None:
        text = f"{said}{why}; a run pauses above {found.max_lost:.0%}, and what is left is no fair sample"
        yield Reason("infrastructure", "unmeasured", text, "Repair it (agentrl endpoints check), then probe again.")
    elif share > LOST_NOTE:
        yield Reason("infrastructure_losses", "note", said + why, "Look at it before a long run: losses add up.")


def _signal(found: Evidence) -> Iterator[Reason]:
    """Is there anything to learn from, and anything left to gain?"""
    if found.mean is None or found.best_of is None:
        yield Reason("too_few_items", "unmeasured", "no item has all its samples", "Probe more items.")
        return
    mean, best, share = found.mean, found.best_of.true_best, found.groups.interval
    seen = f"{found.groups.varied} of {found.groups.n_items} items vary over {found.samples} samples"
    is_full, fails = mean.interval.low >= FULL, best.interval.high < DEAD_SHARE
    if is_full:
        text = f"the mean score is {mean} of the range: hardly anything is left to gain"
        yield Reason("saturated", "not", text, "Ask harder questions, or grade more finely.")
    elif mean.interval.low >= NEARLY_FULL:
        text = f"the mean score is {mean} of the range: little is left to gain"
        yield Reason("nearly_saturated", "weak", text, "Add harder items, or drop those that are always solved.")
    if fails:
        text = f"best of {found.samples} is {best} of the range: everything fails"
        yield Reason("everything_fails", "not", text, EVERYTHING_FAILS)
    if share.high < DEAD_SHARE and not (is_full or fails):
        text = f"{seen} (at most {share.high:.1%}): there is nothing to learn from"
        yield Reason("nothing_varies", "not", text, "Raise the temperature, take finer scores, or other items.")
    elif share.low < DEAD_SHARE <= share.high and not (is_full or fails):
        if not found.groups.varied or share.high > WIDE_SHARE:
            text = f"{seen} (from {share.low:.1%} to {share.high:.1%} of all): too few to say"
            yield Reason("too_few_items", "unmeasured", text, "Probe more items (--items, --train-items).")
        else:
            yield Reason("few_items_vary", "weak", f"{seen} (at most {share.high:.1%})", FEW_VARY)
    elif share.high < FEW_SHARE and not (is_full or fails):
        yield Reason("few_items_vary", "weak", f"{seen} (at most {share.high:.1%})", FEW_VARY)


def _differences(found: Evidence) -> Iterator[Reason]:
    """Samples that differ, and are hardly better for it."""
    if found.mean is None or found.best_of is None or found.mean.interval.low >= NEARLY_FULL:
        return
    gain = found.best_of.headroom
    if found.groups.interval.low >= DEAD_SHARE and gain.interval.high < DEAD_SHARE:
        text = f"the best of {found.samples} is {gain} above the mean: samples differ, but by very little"
        yield Reason("small_differences", "weak", text, "Let the grader tell answers apart more clearly.")


def _noise(found: Evidence) -> Iterator[Reason]:
    """Does the grader mean what it says?"""
    seen = found.repeatability
    if seen is None:
        text = f"whether the grader agrees with itself is not known: {found.unrepeated}"
        yield Reason("grader_not_repeated", "note", text, "Grade answers at least twice (--grades).")
        return
    noise = f"sigma {seen.sigma:.3f}, {seen.changed} of {seen.n_answers} answers changed their score"
    if seen.reliability is not None:
        real, interval = seen.reliability.value, seen.reliability.interval
        share = f"{max(0.0, real):.0%} ({max(0.0, interval.low):.0%} to {max(0.0, interval.high):.0%})"
        text = f"of what an item's answers differ by, {share} is real, the rest is the grader's noise ({noise})"
        if interval.high < NOISE_HALF:
            yield Reason("ambiguous_grader", "not", text, AMBIGUOUS)
            return
        if interval.low < NOISE_HALF:
            yield Reason("noisy_grader", "weak", text, AMBIGUOUS)
            return
    if seen.sigma > MAX_SIGMA:
        yield Reason("grader_flaps", "note", f"the grader disagrees with itself: {noise}", AMBIGUOUS)


def _validation(found: Evidence) -> Iterator[Reason]:
    """Will validation show what was learned, and of the same task?"""
    if found.split_gap is not None and (found.split_gap.low > SPLIT_GAP or found.split_gap.high < -SPLIT_GAP):
        low, high = found.split_gap
        text = f"train scores lie {low:+.2f} to {high:+.2f} above validation's: the splits are not alike"
        yield Reason("splits_differ", "weak", text, "Deal the items to the splits at random.")
    effect, best = found.effect, found.best_of
    if effect is not None and best is not None and effect.alike > max(best.headroom.interval.high, DEAD_SHARE):
        text = (
            f"{effect.n_items} validation items x {effect.samples} show no gain below {effect.alike:.2f}, and best of "
            f"{found.samples} lies {best.headroom} above the mean"
        )
        advice = "Validate on more items, or take more samples of each (evaluation.samples_per_item)."
        yield Reason("validation_too_small", "weak", text, advice)


def _leaks(found: Evidence) -> Iterator[Reason]:
    if found.tools is not None and found.tools.tools:
        text = f"{_told(found.tools, found.tools.tools)}, a made-up one as well: what is learned is to ask for it"
        yield Reason("leaking_tool", "not", text, "Send the tool no item (item_fields: none), or mend it.")
    elif found.tools is not None and found.tools.sent:
        sent = "; ".join(f"{tool}: {', '.join(keys)}" for tool, keys in found.tools.sent.items())
        text = f"tools are sent what looks like the answer ({sent}), and did not tell it"
        yield Reason("answer_sent", "note", text, "Set item_fields to none or a list.")
    if found.tools is not None and found.tools.telling:
        advice = (
            "Is it a document that belongs to the item? Else the tool knows its answers by the id, or the question."
        )
        yield Reason("answer_unasked", "weak", _told(found.tools, found.tools.telling), advice)
    if found.twins is not None and found.twins.n_validation:
        n_twins = len(found.twins.pairs)
        shown = "; ".join(f"{one} and {other}" for one, other in found.twins.pairs[:3])
        if n_twins:
            weight: Weight = "weak" if n_twins > TWINS * found.twins.n_validation else "note"
            text = (
                f"{n_twins} of {found.twins.n_validation} validation questions are nearly asked in training ({shown})"
            )
            yield Reason("similar_splits", weight, text, "Move each question, with its variants, to one split.")
    if found.first_output is not None and found.first_output.interval.low > FIRST_OUTPUT:
        text = f"the first tool output holds the answer in {found.first_output.value:.0%} of the episodes"
        yield Reason("answer_at_once", "note", text, "Is that the task? One call may be all that can be learned.")


def _told(found: ToolLeaks, tools: tuple[str, ...]) -> str:
    tasks = list(dict.fromkeys(leak.task_id for leak in found.leaks if leak.tool in tools))
    return f"{', '.join(tools)} told the answer whatever was asked (items {', '.join(tasks[:3])})"


def exit_code(verdict: Verdict) -> int:
    """0 trainable or weak, 3 not, 4 unmeasured: as gates have it."""
    return {"trainable": 0, "weak": 0, "not": 3, "unmeasured": 4}[verdict]


def codes(reasons: Sequence[Reason], weight: Weight) -> tuple[str, ...]:
    """Of the reasons with this weight."""
    return tuple(reason.code for reason in reasons if reason.weight == weight)


EVERYTHING_FAILS = (
    "Start from a baseline that succeeds now and then (agentrl sft), give partial credit, or take easier items first."
)
FEW_VARY = "Take more samples of each task (see the recommendation), or items of medium difficulty."
AMBIGUOUS = "Give the grader a sharper rubric, or let several votes decide; agentrl grader attack shows its noise."
