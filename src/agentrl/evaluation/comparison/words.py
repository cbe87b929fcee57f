"""Sentences that the page, the Markdown summary and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping

from agentrl.evaluation.comparison.layout import p_value
from agentrl.evaluation.comparison.losses import MIN_HIT, Losses
from agentrl.evaluation.comparison.patterns import MIN_ITEMS, NO_CALL, PatternChange
from agentrl.evaluation.comparison.policies import PolicyComparison
from agentrl.evaluation.conditions import shown
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.intervals import RESAMPLES, SEED

ROWS = {"better": "higher reward", "equal": "equal reward", "worse": "lower reward"}
COLUMNS = {"fewer": "fewer calls", "equal": "equal calls", "more": "more calls"}
PATTERNS = {
    "tool_2grams": "Two tools in a row",
    "tool_3grams": "Three tools in a row",
    "loops": "Loops",
    "first_tool": "First tool of an episode",
    "last_tool": "Last tool of an episode",
}
HOLDOUT = "holdout_score_of_"


def side_sentence(evaluation: Evaluation) -> str:
    """Who it is and how much of it there is."""
    policy, report = evaluation.policy, evaluation.report
    who = [str(policy[key]) for key in ("model", "evaluation", "name") if policy.get(key)][:1]
    suite, tags = evaluation.selection.get("suite"), evaluation.selection.get("tags")
    if policy.get("step") is not None:
        who.append(f"step {policy['step']}")
    if isinstance(suite, Mapping):
        who.append(f"suite {suite.get('name')} {suite.get('version')}")
    if tags:
        who.append(f"only tags {', '.join(map(str, tags))}")
    lost = f", {report.ungraded} without a grade" if report.ungraded else ""
    known = ", ".join(each for each in who if each != evaluation.name)
    return f"{evaluation.name}{f' ({known})' if known else ''}: {len(evaluation.rollouts)} rollouts{lost}"


def size(comparison: PolicyComparison) -> str:
    """For example `100 items x 3 samples`, or `x 3 and 1 samples` where the sides differ."""
    n_items = comparison.n_items
    each = list(dict.fromkeys(side.report.samples_per_item for side in (comparison.a, comparison.b)))
    samples = " and ".join(map(str, each))
    return f"{n_items} item{'s' * (n_items != 1)} x {samples} sample{'s' * (each != [1])}"


def allowed_lines(comparison: PolicyComparison) -> list[str]:
    """The conditions that differ all the same."""
    return [f"{each.key}: {shown(each.before)} in A, {shown(each.after)} in B" for each in comparison.allowed]


def test_sentences(comparison: PolicyComparison) -> list[str]:
    """Items won and lost, and McNemar's test where it applies."""
    wins, mcnemar = comparison.wins, comparison.mcnemar
    found = [
        f"B is better on {wins.win} items, equal on {wins.tie}, worse on {wins.loss} "
        f"(sign test: p {_equals(wins.p_value)})."
    ]
    if mcnemar.p_value is not None:
        found.append(
            f"B solves {mcnemar.gained} items that A fails, and fails {mcnemar.lost} that A solves "
            f"(exact McNemar: p {_equals(mcnemar.p_value)})."
        )
    return found


def warnings(comparison: PolicyComparison) -> list[str]:
    """What a rise of the reward may hide: graders that nobody knows, hold-outs that fell, and losses that chose."""
    found = []
    if not (_tells_grader(comparison.a) or _tells_grader(comparison.b)):
        found.append("Careful: neither side tells which grader scored it; that it was the same is taken on trust.")
    reward = comparison.differences["reward"].change_interval
    for name, figure in comparison.differences.items():
        if name.startswith(HOLDOUT) and reward and figure.change_interval:
            interval, watched = figure.change_interval, name.removeprefix(HOLDOUT)
            if reward.low > 0 > interval.high:
                ends = f"95 % interval [{interval.low:+.3f}, {interval.high:+.3f}]"
                fell = f"the hold-out {watched} fell by {-figure.change:.3f} ({ends})"
                found.append(f"Careful: {fell} while the reward rose, which may be gamed.")
    for side, losses in zip("AB", comparison.losses, strict=True):
        if losses.is_selective:
            found.append(f"Careful: in {side} {losses.verdict}.")
    return found


def _tells_grader(evaluation: Evaluation) -> bool:
    graders = evaluation.conditions.get("graders")
    told = any(graders.values()) if isinstance(graders, Mapping) else bool(graders)
    return told or any(evaluation.report.grader_versions)


def _equals(value: float) -> str:
    shown = p_value(value)
    return shown if shown.startswith("<") else f"= {shown}"


def habit(row: PatternChange) -> str:
    """For example `cat cat 1.57 -> 0.19`: how often it occurs in an episode, as sides may differ in their samples."""
    return f"{' '.join(row.tools)} {row.per_episode.baseline:.2f} -> {row.per_episode.candidate:.2f}"


def lost_sentence(losses: Losses) -> str:
    """What was lost of a side, by class, and whether that follows difficulty."""
    if not losses.lost:
        return "nothing was lost."
    classes = ", ".join(f"{name} {count}" for name, count in losses.by_class.items())
    correlation = ""
    if losses.correlation is not None:
        correlation = f" (Spearman's correlation of loss and reward {losses.correlation:+.2f})"
    return f"{losses.lost} of {losses.rollouts} rollouts have no vote ({classes}); {losses.verdict}{correlation}."


def method_notes(comparison: PolicyComparison) -> list[str]:
    """What the figures mean, for whoever reads the page alone."""
    return [
        "Figures are means over items of means over an item's graded episodes, so every item has one vote. Rollouts "
        "that infrastructure broke have none; stop reasons and losses are of all episodes.",
        f"Intervals: 95 %, percentile bootstrap over items, both policies drawn together ({RESAMPLES:,} resamples, "
        f"seed {SEED}). Each is of one figure and not corrected for the others beside it.",
        f"A success is a score of at least {comparison.pairs.pass_threshold:g}. Cost and tokens per success are sums "
        "over sums, failures included, and n/a without a success.",
        f"Habits: all patterns in at least {MIN_ITEMS} items are looked at. p: signs of items' changes flipped at "
        f"random, then Holm's correction within the table. Counts are of graded episodes; {NO_CALL} is an episode "
        "without a call.",
        "A loop is one tool three times in a row, or a round of two to five tools at least twice; turned rounds are "
        "one. An identical call has the tool and the arguments of an earlier one of its episode.",
        f"Losses follow difficulty where the items that lost something ({MIN_HIT} at least) scored differently under "
        "the other policy, and the interval says so.",
    ]
