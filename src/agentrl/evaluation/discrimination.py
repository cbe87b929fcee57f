"""May a process reward be trained on? Only where, on logged rollouts, it tells good answers from bad ones.

Dense rewards that nobody checked cost up to 14 points on tau-bench (arXiv:2604.02869): a policy learns to please the
signal. So each signal is compared with the outcome within tasks (between tasks it may only tell easy from hard), the
result is kept as a report, and training starts with a passing report of these very signals, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from agentrl.config import RunConfig, training_sections
from agentrl.errors import CheckpointError, ConfigError
from agentrl.grading.versions import UNKNOWN, grade_versions, one_version, same_grader, shown
from agentrl.rollout.process_rewards import Signal, build_signals
from agentrl.runs import read_rollouts
from agentrl.runs.files import ROLLOUTS
from agentrl.runs.traces import from_trace
from agentrl.types import Rollout

MIN_AUC = 0.55
MIN_TASKS = 10
"""With good and bad samples: fewer say nothing."""


@dataclass(frozen=True)
class Discrimination:
    """How one signal goes with the outcome, within tasks."""

    name: str
    digest: str
    """Of the signal's definition."""
    n_tasks: int
    """Task groups with both successes and failures; the others cannot tell."""
    auc: float | None
    """Share of the pairs (success, failure) of one task that the signal ranks rightly, ties counted half."""
    correlation: float | None
    """Point-biserial, of value and success less their task's means; None where one of them never varies."""
    contradicting_steps: float
    """Share of turns for which the advantage with this signal has another sign than without it."""

    @property
    def problem(self) -> str:
        """Why it must not be trained on; empty where it may."""
        if self.n_tasks < MIN_TASKS:
            return f"{self.n_tasks} tasks have both good and bad samples; {MIN_TASKS} are needed"
        if self.auc is None or self.auc < MIN_AUC:
            return f"AUC {self.auc:.3f} is below {MIN_AUC}"
        if self.correlation is None or self.correlation <= 0:
            return f"correlation {self.correlation} with success, where it should be positive"
        return ""


def discriminate(groups: Iterable[Sequence[Rollout]], signal: Signal, *, pass_threshold: float) -> Discrimination:
    """Compare a signal with success (a score of at least `pass_threshold`).

    Args:
        groups: rollouts of one task under one policy each; those without a grade or a turn are passed over.

    Raises:
        ConfigError: a function of the signal failed.
    """
    values: list[float] = []
    successes: list[float] = []
    ranked: list[float] = []
    signs: list[bool] = []
    n_tasks = 0
    for group in groups:
        valid = [rollout for rollout in group if rollout.is_valid and rollout.turns]
        good = [float((rollout.grade.score or 0.0) >= pass_threshold) for rollout in valid]
        if not 0 < sum(good) < len(good):
            continue
        n_tasks += 1
        found = [signal.summary(rollout) for rollout in valid]
        values += [value - fmean(found) for value in found]
        successes += [each - fmean(good) for each in good]
        of_good = [value for value, is_good in zip(found, good, strict=True) if is_good]
        of_bad = [value for value, is_good in zip(found, good, strict=True) if not is_good]
        ranked += [float(a > b) + 0.5 * float(a == b) for a, b in product(of_good, of_bad)]
        signs += _contradictions(valid, signal)
    return Discrimination(
        name=signal.name,
        digest=signal.digest,
        n_tasks=n_tasks,
        auc=fmean(ranked) if ranked else None,
        correlation=_correlation(values, successes),
        contradicting_steps=fmean(signs) if signs else 0.0,
    )


def _contradictions(group: Sequence[Rollout], signal: Signal) -> list[bool]:
    """Of each turn: does what it earns, over the group's mean, turn the sign of the outcome's advantage?"""
    scores = [rollout.grade.score or 0.0 for rollout in group]
    rewards = [signal.rewards(rollout, 1.0) for rollout in group]
    usual = fmean(reward for each in rewards for reward in each)
    return [
        (score - fmean(scores)) * (score - fmean(scores) + reward - usual) < 0
        for score, each in zip(scores, rewards, strict=True)
        for reward in each
        if score != fmean(scores)
    ]


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's, of values whose mean is 0."""
    of_a, of_b = sum(x * x for x in a), sum(y * y for y in b)
    if of_a < 1e-12 or of_b < 1e-12:
        return None
    return float(sum(x * y for x, y in zip(a, b, strict=True)) / (of_a * of_b) ** 0.5)


def logged_groups(run: Path) -> tuple[list[str], list[list[Rollout]]]:
    """Names of a run's files of training and validation rollouts, and the rollouts of each task in each file.

    One file is of one policy, so that the groups differ in what was done and not in who did it.

    Raises:
        CheckpointError: there are none, or a file is damaged.
        ConfigError: their grades are of several grader versions.
    """
    found = sorted(path.name.removesuffix(".jsonl.gz") for path in (run / ROLLOUTS).glob("*.jsonl.gz"))
    names = [name for name in found if name.split("-")[0] in ("train", "validation")]
    if not names:
        raise CheckpointError(f"{run}: no rollouts of training or validation are recorded here")
    groups: dict[tuple[str, str], list[Rollout]] = {}
    versions: dict[str, str] = {}
    for name in names:
        rollouts = [from_trace(trace) for trace in read_rollouts(run, name)]
        for rollout in rollouts:
            groups.setdefault((name, rollout.task.id), []).append(rollout)
        versions |= {version: name for version in grade_versions(rollouts) if version not in versions}
    one_version(f"{run}: process rewards", versions)
    return names, list(groups.values())


def to_record(
    found: Sequence[Discrimination], sources: Sequence[str], groups: Iterable[Sequence[Rollout]] = ()
) -> dict[str, Any]:
    """The report as JSON.

    Args:
        sources: the files of rollouts that it was computed from.
        groups: those rollouts, whose one grader version is noted.
    """
    signals = [{**asdict(each), "problem": each.problem} for each in found]
    version = next(iter(grade_versions(rollout for group in groups for rollout in group)), UNKNOWN)
    return {
        "min_auc": MIN_AUC,
        "min_tasks": MIN_TASKS,
        "rollouts": list(sources),
        "grader_version": version,
        "signals": signals,
    }


def passed_signals(config: RunConfig, graders: Mapping[str, str] | None = None) -> list[Signal]:
    """The process rewards that a run trains on, none where the config has none.

    Args:
        graders: versions of the run's graders by name, see `RolloutEngine.grader_versions`: success is what
            the grader says, so a report holds for that grader alone.

    Raises:
        ConfigError: there is no report, it is of other signals or another grader, or one of them failed.
    """
    process = config.ppo.process_rewards
    if process is None:
        return []
    signals = build_signals(process, training_sections(config).grading.name)
    where, repair = f"ppo.process_rewards.report: {process.report}", "run `agentrl doctor rewards CONFIG RUN_DIR`"
    try:
        record = json.loads(Path(process.report).read_text("utf-8"))
        reported: Mapping[str, Any] = {each["digest"]: each for each in record["signals"]}
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such file; {repair} on a run without process rewards first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{where}: is no such report ({error!r:.100}); {repair}") from error
    ours, theirs = (graders or {}).get(training_sections(config).grading.name), record.get("grader_version", UNKNOWN)
    if ours is not None and theirs != UNKNOWN and not same_grader(ours, theirs):
        found = f"is of grades by {shown(theirs)}, and the grader of this run is {shown(ours)}"
        raise ConfigError(f"{where}: {found}; {repair} on rollouts that it has graded")
    for signal in signals:
        if signal.digest not in reported:
            raise ConfigError(f"{where}: does not know '{signal.name}' as it is defined now; {repair} again")
        if problem := reported[signal.digest].get("problem"):
            raise ConfigError(f"{where}: '{signal.name}' must not be trained on: {problem}")
    return signals
