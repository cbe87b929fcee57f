"""What a run tells when its figures go bad: warnings on the way, and at the end which rule, why, and the way back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig, training_sections
from agentrl.disk import write_text
from agentrl.errors import CheckpointError, TrainingStopped
from agentrl.policy.checkpoint import step_folders, step_of
from agentrl.policy.ranks import Ranks
from agentrl.ppo.checks import CheckFailed
from agentrl.ppo.guards import Finding, judge, new_warnings, suspect_step
from agentrl.ppo.rules import rules
from agentrl.ppo.signals import Row
from agentrl.printable import printable
from agentrl.runs import RunDirectory, read_json
from agentrl.runs.files import STOP, WARNINGS, to_json

SHOWN_SAMPLES = 3


class GuardStop(TrainingStopped):
    """A rule of `ppo.guards` fired."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.rule.name, str(finding))
        self.finding = finding


class Watch:
    """Judges a run after every step; keeps its warnings in warnings.jsonl and in checkpoints.

    Args:
        history: the metrics so far, which the run adds to.
        tell: is told of each warning once.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        history: Callable[[], Sequence[Row]],
        tell: Callable[[str], None],
        ranks: Ranks,
    ) -> None:
        self.rules = rules(config.ppo, max_score=training_sections(config).grading.max_score)
        self.run, self.ranks, self._history, self._tell = run, ranks, history, tell
        self.warnings: list[dict[str, Any]] = []

    def warn(self) -> None:
        """Tell what is newly wrong with the newest step.

        Raises:
            CheckpointError: warnings.jsonl cannot be written.
        """
        rows = self._history()
        found = new_warnings(rows, self.rules)
        for finding in found:
            self._tell(f"warning: {finding.rule.name}: {finding}; {finding.rule.repair}")
            self.warnings.append({"step": rows[-1]["step"], **finding.to_record()})
        if found:
            self._write()

    def stop(self) -> None:
        """End the run where a rule says so.

        Raises:
            GuardStop: the newest step breaks a rule.
        """
        for finding in judge(self._history(), self.rules):
            if finding.is_stop:
                raise GuardStop(finding)

    def needed_step(self) -> int | None:
        """The newest step that a stop which may be coming would go back to; None where none seems to come."""
        return suspect_step(self._history(), self.rules)

    def state(self) -> list[dict[str, Any]]:
        """For a checkpoint."""
        return self.warnings

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go back to these warnings; later ones are given again."""
        self.warnings = list(state)
        self._write()

    def _write(self) -> None:
        path = self.run.path / WARNINGS
        text = "".join(to_json(warning) + "\n" for warning in self.warnings)
        try:
            self.ranks.on_first(lambda: write_text(path, text) if text or path.exists() else None)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be written: {error.strerror or error}") from error


def stop_record(stop: TrainingStopped, *, step: int, batch: Mapping[str, Any], checkpoints: Path) -> dict[str, Any]:
    """stop.json: which rule, why, of which batch, and the checkpoint that `--resume` goes back to.

    Args:
        step: the last one that was taken.
        batch: `file` and `ids` of the rollouts of the update in question; empty where there was none.
        checkpoints: the folder; the newest one from before the signal went bad is named, null if there is none.
    """
    record: dict[str, Any] = {"rule": stop.rule, "message": str(stop), "step": step, "rollouts": batch}
    good_step = step - 1 if isinstance(stop, CheckFailed) else step
    if isinstance(stop, GuardStop):
        finding, warn = stop.finding, stop.finding.rule.warn
        good_step = finding.good_step
        values = [point._asdict() for point in finding.points]
        record |= finding.to_record() | {"warn_limit": str(warn) if warn else None, "values": values}
    good = [folder for folder in step_folders(checkpoints) if step_of(folder) <= good_step]
    checkpoint = f"{checkpoints.name}/{good[-1].name}" if good else None
    return {**record, "last_good_step": good_step, "checkpoint": checkpoint}


def go_back(run: Path, tell: Callable[[str], None]) -> bool:
    """Before a stopped run goes on: delete the checkpoints that were saved after its figures had gone bad.

    The record of the stop is kept as `stop-NNNNNN.json`. Whoever thinks that the rule was wrong deletes stop.json
    first: then the newest checkpoint is the one that is gone on from.

    Returns:
        Whether the run had been stopped.
    """
    if not (run / STOP).exists():
        return False
    record = read_json(run, STOP)
    if record["checkpoint"] is not None:
        good = run / record["checkpoint"]
        for folder in reversed(step_folders(good.parent)):  # newest first: what is left is always a run's past
            if step_of(folder) > step_of(good):
                shutil.rmtree(folder)
        tell(f"going back to step {step_of(good)}, from before {record['rule']} stopped the run")
    (run / STOP).rename(run / f"stop-{record['step']:06d}.json")
    return True


def describe_stop(record: Mapping[str, Any], command: str) -> str:
    """stop.json for people.

    Args:
        command: the one that goes on with the run.
    """
    lines = [f"stopped by {record['rule']} after step {record['step']}: {record['message']}"]
    if "values" in record:
        limits = f"stops {record['limit']}, warns {record['warn_limit'] or 'never'}"
        lines.append(f"  signal      {record['signal']}: {limits}")
        lines.append(f"  batch       rollouts/{record['rollouts']['file']}.jsonl.gz")
        lines.append(f"  go back to  {record['checkpoint'] or 'nothing: there is no checkpoint from before that'}")
        lines.append(f"  try         {record['repair']}")
    for sample in record.get("samples", [])[:SHOWN_SAMPLES]:
        scores = f"score {sample['score']:g}, hold-out {sample['holdout']:g}"
        lines.append(f"  read        {sample['rollout_id']} in rollouts/{sample['file']}.jsonl.gz: {scores}")
        lines.append(f"              {printable(sample['answer'])[:100] or 'no answer'}")
    return "\n".join([*lines, f"  go on with  {command}"])
