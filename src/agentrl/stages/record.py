"""What a stage tells while it runs: a line of metrics and of progress a step, and when to save and to stop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from agentrl.errors import TrainingStopped
from agentrl.progress import Reporter
from agentrl.runs import RunDirectory

NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "logps/chosen": "logprob_chosen",
    "logps/rejected": "logprob_rejected",
    "accuracy": "comparison_accuracy",
    "margin": "comparison_margin",
    "mean_reward": "reward",
}
"""trl's metrics that are kept, and what they are called in metrics.jsonl; `loss` gets the split's name in front."""


class Record(TrainerCallback):
    """Keeps metrics.jsonl, and steers: transformers' trainer asks its callbacks what to do after a step.

    Args:
        total: steps of the whole run.
        every_steps: steps between two checkpoints; there is one after the last step and when `stop` is set too.
        validates: measure validation with every checkpoint.
        stop: somebody wants the run to end.
    """

    def __init__(
        self,
        run: RunDirectory,
        reporter: Reporter,
        *,
        total: int,
        every_steps: int,
        validates: bool,
        stop: threading.Event,
    ) -> None:
        self.run, self.reporter = run, reporter
        self.total, self.every_steps, self.validates, self.stop = total, every_steps, validates, stop
        self.rows: list[dict[str, Any]] = []
        self._last = time.monotonic()

    def go_on_after(self, step: int | None) -> None:
        """Forget what was written after a checkpoint: those steps are taken again; without one, all of it."""
        self.rows = [row for row in self.run.read_metrics() if step is not None and row["step"] <= step]
        self.run.replace_metrics(self.rows)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        is_due = state.global_step % self.every_steps == 0 or state.global_step == self.total
        control.should_save = is_due
        control.should_evaluate = is_due and self.validates

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        del args, kwargs
        if not logs or "loss" not in logs:  # of an evaluation, or of the whole run
            return
        now = time.monotonic()
        row = {"step": state.global_step, **named(logs, "train"), "seconds_step": now - self._last}
        self._last = now
        self.rows.append(row)
        self.run.append_metrics(row)
        self.reporter.step(state.global_step, self.total, row)
        wrong = [key for key in ("train_loss", "grad_norm") if not math.isfinite(row.get(key, 0.0))]
        if wrong:
            what = ", ".join(f"{key} is {row[key]}" for key in wrong)
            raise TrainingStopped("non_finite", f"{what} at step {state.global_step}; lower the learning rate")
        self._obey(control)  # of a step this comes last but for validation and saving

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Validation's figures join the line of their step; before the first step they are one of their own."""
        del args
        metrics = {key.removeprefix("eval_"): value for key, value in kwargs["metrics"].items()}
        found = named(metrics, "validation")
        if self.rows:
            self.rows[-1] |= found
            self.run.replace_metrics(self.rows)
        else:
            self.rows.append({"step": state.global_step, **found})
            self.run.append_metrics(self.rows[-1])
        shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items() if key in SHOWN)
        self.reporter.message(f"after step {state.global_step}: {shown}")
        self._last = time.monotonic()
        self._obey(control)

    def _obey(self, control: Any) -> None:
        if self.stop.is_set():
            control.should_save = control.should_training_stop = True

    def last(self, prefix: str) -> dict[str, float]:
        """The newest figures whose names begin so."""
        found = [row for row in self.rows if any(key.startswith(prefix) for key in row)]
        return {key: value for key, value in found[-1].items() if key.startswith(prefix)} if found else {}

    def mean(self, key: str) -> float | None:
        """Over all steps."""
        values = [row[key] for row in self.rows if row.get(key) is not None]
        return sum(values) / len(values) if values else None


SHOWN = (
    "validation_loss",
    "validation_reward_margin",
    "validation_reward_accuracy",
    "validation_comparison_accuracy",
)


def named(metrics: Mapping[str, Any], split: str) -> dict[str, float]:
    """The metrics that are kept, by our names: those of validation with `validation_` in front."""
    kept = {name: float(metrics[key]) for key, name in NAMES.items() if key in metrics}
    if split == "train":
        return {"train_loss" if name == "loss" else name: value for name, value in kept.items()}
    return {f"{split}_{name}": value for name, value in kept.items()}
