"""The offline stage of a run: its two policies on its own tasks and on suites, its gates, and whether it was hacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agentrl.config import GradingConfig, ReleaseConfig, load_config
from agentrl.data.overlap import overlaps
from agentrl.errors import CheckpointError, ConfigError
from agentrl.evaluation.contamination import contamination
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.run_evaluations import find_evaluation
from agentrl.evaluation.suites import Suite
from agentrl.release.gates.look import Look
from agentrl.release.gates.offline import Measured, PolicyDistance, measured, policy_distance
from agentrl.release.gates.offline_gate import offline_gates, offline_verdicts
from agentrl.release.gates.reward_hacking import reward_hacking
from agentrl.release.records import Outcome, Verdict
from agentrl.runs.files import CONFIG, MANIFEST, read_metrics
from agentrl.runs.sound_traces import sound_rollout
from agentrl.runs.trace_files import read_traces, trace_files
from agentrl.types import Task


@dataclass(frozen=True)
class OfflineGate:
    """What `agentrl gate` prints and keeps."""

    verdicts: tuple[Verdict, ...]
    suites: tuple[Measured, ...] = field(repr=False)
    contaminated: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By suite, what it shares with the training data, in words."""

    @property
    def outcome(self) -> Outcome:
        """Of all that decide: a fail outweighs what is undecided, and only passes pass."""
        found = {verdict.verdict for verdict in self.verdicts if not verdict.is_shown_only}
        for worst in (Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE):
            if worst in found:
                return worst
        return Outcome.PASS


def sources_of(run: Path | None, baseline: str | None, candidate: str | None) -> tuple[str, str]:
    """What is compared: RUN@baseline and RUN@best, or what was named instead.

    Raises:
        ConfigError: neither a run nor both sources were given, or it is no run.
    """
    if run is None and not (baseline and candidate):
        raise ConfigError("allowed: RUN, or both --baseline and --candidate")
    if run is not None and not (run / MANIFEST).is_file():
        raise ConfigError(f"{run}: holds no run; give the directory of `agentrl train`, or --baseline and --candidate")
    return baseline or f"{run}@baseline", candidate or f"{run}@best"


def gate_offline(
    release: ReleaseConfig,
    sources: tuple[str, str],
    look: Look,
    *,
    suites: Sequence[tuple[str, str]] = (),
    allowed: Sequence[str] = (),
) -> OfflineGate:
    """Judge the offline stage.

    Args:
        sources: (baseline, candidate), as `agentrl compare` takes them.
        suites: further pairs of them, on suites.
        allowed: conditions that may differ.

    Raises:
        ConfigError: a source is missing or damaged, two differ in more than the policy, or no gate is read offline.
    """
    if not offline_gates(release.gates):
        raise ConfigError("release.gates: no row has offline_eval among its stages, so there is nothing to judge")
    pairs = [sources, *suites]
    found = [measured(find_evaluation(a), find_evaluation(b), allowed=allowed) for a, b in pairs]
    _refuse_namesakes(found)
    run = _run_of(found[0].candidate)
    step = found[0].candidate.policy.get("step")
    distance = PolicyDistance((), "the candidate is no run, so the tokens of its training are not here")
    hacking: list[Verdict] = []
    if run is not None:
        distance = policy_distance(run, step)
        hacking = [_hacking(run, step, found[0].baseline, found[0].candidate, look)]
    verdicts = [*hacking, *offline_verdicts(release.gates, found, look, distance)]
    shared = _contaminated(run, found)
    return OfflineGate(tuple(_unless_trained_on(each, found, shared) for each in verdicts), tuple(found), shared)


def _refuse_namesakes(suites: Sequence[Measured]) -> None:
    seen: dict[tuple[str, str], Measured] = {}
    for suite in suites:
        other = seen.setdefault((suite.kind, suite.name), suite)
        if other is not suite:
            raise ConfigError(f"--suite: the {suite.kind} suite {suite.name} was given a second time; allowed: once")


def _run_of(candidate: Evaluation) -> Path | None:
    run = candidate.policy.get("run")
    return Path(str(run)) if candidate.policy.get("kind") == "run" and run else None


def _hacking(run: Path, step: int | None, baseline: Evaluation, candidate: Evaluation, look: Look) -> Verdict:
    """Raises ConfigError: the run's config or metrics cannot be read."""
    try:
        rows = read_metrics(run)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    until = [row for row in rows if step is None or row.get("step", 0) <= step]
    grading = load_config(run / CONFIG).grading
    if not isinstance(grading, GradingConfig):
        raise ConfigError(f"{run / CONFIG}: has no `grading` section")
    return reward_hacking(baseline, candidate, grading, until, look)


def _contaminated(run: Path | None, suites: Sequence[Measured]) -> dict[str, tuple[str, ...]]:
    """Suites that share items with what the run learned from. Its own split was checked when it began."""
    wanted = [suite for suite in suites if suite.candidate.selection.get("suite")]
    if run is None or not wanted:
        return {}
    trained: dict[str, Task] = {}
    for path in trace_files(run):
        for rollout in read_traces(path, sound_rollout):
            trained.setdefault(rollout.task.id, rollout.task)
    found = {}
    for suite in wanted:
        tasks = tuple({each.task.id: each.task for each in suite.candidate.rollouts}.values())
        if suite.is_adversarial:
            frozen = Suite(suite.name, "", suite.digest, "", "", "", tasks, kind=suite.kind)
            problems = contamination(frozen, tuple(trained.values()))
        else:
            problems = overlaps({f"suite {suite.name}": tasks, "train": tuple(trained.values())})
        if problems:
            found[suite.name] = tuple(problems)
    return found


def _unless_trained_on(verdict: Verdict, suites: Sequence[Measured], shared: dict[str, tuple[str, ...]]) -> Verdict:
    """What was read on tasks that were trained on is invalid: it measures memory."""
    for suite in suites:
        if suite.name in shared and verdict.reason.endswith(f"{suite.kind} suite {suite.name}"):
            reason = f"the suite was trained on: {shared[suite.name][0]}; {verdict.reason}"
            return replace(verdict, verdict=Outcome.INVALID, reason=reason)
    return verdict
