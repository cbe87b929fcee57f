"""The course of one stage: from a checkpoint to a run directory and another checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agentrl import __version__
from agentrl.config import StageConfig, StageRunConfig, to_yaml
from agentrl.disk import file_digest
from agentrl.errors import TrainingStopped
from agentrl.interrupts import noting_signals
from agentrl.policy.checkpoint import newest_checkpoint, step_of
from agentrl.policy.folders import new_folder, recover
from agentrl.policy.lora import has_adapter, save_adapter, save_merged
from agentrl.policy.policy import folder_digest, weights_digest
from agentrl.progress import Reporter
from agentrl.runs import RunDirectory, environment_manifest
from agentrl.stages.order import training_order
from agentrl.stages.record import Record


@dataclass(frozen=True)
class StageResult:
    """What a stage came to."""

    run_dir: Path
    summary: dict[str, Any]
    """The contents of summary.json."""
    stopped_by: str | None
    """"interrupted", or None where all steps were taken and `output` was written."""


@dataclass(frozen=True)
class Course:
    """One stage, loaded and checked: nothing has been written yet.

    Attributes:
        name: of its section in the config: sft, dpo or reward_model.
        lengths: tokens of every example.
        facts: what else its summary tells.
        make_trainer: from arguments that all stages have, a trainer of `trainers.py`.
    """

    config: StageRunConfig
    name: str
    model: Any
    tokenizer: Any
    lengths: Sequence[int]
    facts: Mapping[str, Any]
    make_trainer: Callable[[dict[str, Any]], Any]

    @property
    def section(self) -> StageConfig:
        found: StageConfig = getattr(self.config, self.name)
        return found

    def run(self, folder: Path, *, resume: bool, allow_change: Sequence[str], reporter: Reporter) -> StageResult:
        """Train to the end, or until somebody stops it; what is there is saved either way.

        Raises:
            CheckpointError: the run directory is in use, holds another run, or cannot be written.
            TrainingStopped: the loss or the gradient is not a number any more.
        """
        with self._open(folder, resume=resume, allow_change=allow_change) as run:
            return self._train(run, reporter, resume=resume)

    def _open(self, folder: Path, *, resume: bool, allow_change: Sequence[str]) -> RunDirectory:
        section = self.section
        files = {"train": section.train, "validation": section.validation}
        versions = {
            "model": folder_digest(Path(section.model)),
            **{name: file_digest(Path(path)) for name, path in files.items() if path},
            "agentrl": __version__,
        }
        config, manifest = to_yaml(self.config), {**environment_manifest(), "versions": versions}
        if not resume:
            return RunDirectory.create(folder, config_yaml=config, manifest=manifest)
        freely = (f"{self.name}.checkpoint", f"{self.name}.output", f"{self.name}.threads")
        return RunDirectory.open(folder, config, manifest, allow_change=(*freely, *allow_change))

    def _train(self, run: RunDirectory, reporter: Reporter, *, resume: bool) -> StageResult:
        section = self.section
        batch, folder = section.batch_size, run.checkpoint_path("")
        recover(folder)
        checkpoint, complaints = newest_checkpoint(folder) if resume else (None, [])
        for complaint in complaints:
            reporter.message(f"{complaint}; going back to an earlier one")
        order = training_order(self.lengths, epochs=section.epochs, batch_size=batch, seed=self.config.seed)
        total = -(-len(order) // batch)
        with noting_signals(reporter.message) as stop:
            record = Record(
                run,
                reporter,
                total=total,
                every_steps=section.checkpoint.every_steps,
                validates=section.validation is not None,
                stop=stop,
            )
            trainer = self.make_trainer(trainer_arguments(section, folder, self.config.seed))
            trainer.place(order=order, keep_last=section.checkpoint.keep_last)
            trainer.add_callback(record)
            record.go_on_after(step_of(checkpoint) if checkpoint else None)
            if checkpoint:
                reporter.message(f"resuming after step {step_of(checkpoint)}")
            elif record.validates:
                trainer.evaluate()
            reporter.phase(f"training: {total} steps")
            try:
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            except TrainingStopped as stopped:
                run.write_summary(self._summary(record, trainer.state.global_step, stopped.rule))
                raise
        is_finished = trainer.state.global_step == total
        summary = self._summary(record, trainer.state.global_step, None if is_finished else "interrupted")
        if is_finished:
            summary |= self._write_output()
        run.write_summary(summary)
        return StageResult(run.path, summary, summary["stopped_by"])

    def _summary(self, record: Record, steps: int, stopped_by: str | None) -> dict[str, Any]:
        trained = [parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad]
        before = {f"{key}_before": value for key, value in record.rows[0].items() if key.startswith("validation_")}
        return {
            "name": self.config.name,
            "seed": self.config.seed,
            "steps": steps,
            "stopped_by": stopped_by,
            "wall_seconds": sum(row.get("seconds_step", 0.0) for row in record.rows),
            "parameters": self.model.num_parameters(),
            "trained_parameters": sum(trained),
            **self.facts,
            "train_loss": record.mean("train_loss"),
            **before,
            **record.last("validation_"),
        }

    def _write_output(self) -> dict[str, Any]:
        """An ordinary Hugging Face directory, there whole or not at all: the start of the next stage."""
        folder = Path(self.section.output)
        with new_folder(folder, is_kept=False) as draft:
            if has_adapter(self.model):
                save_merged(self.model, draft)
                save_adapter(self.model, draft / "adapter")
            else:
                self.model.save_pretrained(draft)
            if self.section.save_dtype == "float16":
                type(self.model).from_pretrained(draft, dtype=torch.float16).save_pretrained(draft)
            self.tokenizer.save_pretrained(draft)
        weights = type(self.model).from_pretrained(folder, dtype="auto")
        return {"output": str(folder), "digest": folder_digest(folder), "weights": weights_digest(weights)}


def trainer_arguments(section: StageConfig, folder: Path, seed: int) -> dict[str, Any]:
    """Arguments of transformers' that all stages have."""
    at_once = section.microbatch_size or section.batch_size
    return {
        "output_dir": str(folder),
        "num_train_epochs": 1,  # the order of the examples holds all passes
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": section.batch_size // at_once,
        "per_device_eval_batch_size": at_once,
        "learning_rate": section.learning_rate,
        "warmup_steps": section.warmup_fraction,
        "lr_scheduler_type": "cosine",
        "weight_decay": section.weight_decay,
        "max_grad_norm": section.max_grad_norm,
        "max_length": None,  # trl would cut, or drop, without a word
        "bf16": section.dtype == "bfloat16",
        "gradient_checkpointing": section.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "seed": seed,
        "save_strategy": "no",  # `Record` says when
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
