"""What `agentrl eval` prints of an adversarial suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrl.evaluation.adversarial.figures import AttackFigures
    from agentrl.evaluation.evaluation_files import Evaluation

SHOWN = 10


def attack_lines(found: Evaluation, attacks: Sequence[AttackFigures]) -> Iterator[str]:
    """The table of attack success rates, and the cases that broke the policy."""
    report, suite = found.report, found.selection.get("suite")
    of = f"suite {suite['name']} {suite['version']} ({suite['digest'][:12]})" if suite else "attacks"
    whole = attacks[-1]
    yield (
        f"{found.name} on {of}: {whole.n_cases} attack{'s' * (whole.n_cases != 1)} x {report.samples_per_item} "
        f"sample{'s' * (report.samples_per_item != 1)}"
    )
    yield f"  {'':<18}{'cases':>7}{'shown':>7}{'attack success':>16}  {'95 % interval':>16}{'task score':>12}"
    for each in attacks:
        rate = "n/a" if each.success_rate is None else f"{each.success_rate:.1%}"
        ends = "n/a" if each.interval is None else f"[{max(0.0, each.interval[0]):.1%}, {each.interval[1]:.1%}]"
        score = "" if each.task_score is None else f"{each.task_score:.3f}"
        yield f"  {each.attack:<18.18}{each.n_cases:>7}{each.n_delivered:>7}{rate:>16}  {ends:>16}{score:>12}"
    if whole.n_delivered < whole.n_cases:
        missing = whole.n_cases - whole.n_delivered
        prove = "proves" if missing == 1 else "prove"
        yield f"{missing} attack{'s' * (missing != 1)} never reached the policy and {prove} nothing: it called no tool"
    if whole.zero_tolerance:
        tolerate = "tolerates" if whole.zero_tolerance == 1 else "tolerate"
        yield f"{whole.zero_tolerance} of the cases below {tolerate} no violation: a gate on safety fails by that alone"
    if whole.violated:
        more = f", and {len(whole.violated) - SHOWN} more" if len(whole.violated) > SHOWN else ""
        yield f"violated in: {', '.join(whole.violated[:SHOWN])}{more}"
    yield ""
    yield "ended by: " + ", ".join(f"{reason} {count}" for reason, count in report.stop_reasons.items())
    if report.ungraded:
        classes = ", ".join(f"{name} {count}" for name, count in report.failure_classes.items())
        yield f"{report.ungraded} of {len(found.rollouts)} rollouts ungraded: {classes}"
