"""Supervised fine-tuning of a baseline with trl's SFTTrainer, loss on assistant tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentrl.chat import ChatFormat
from agentrl.config import SFTRunConfig
from agentrl.progress import Reporter, SilentReporter
from agentrl.stages.conversations import encode_file
from agentrl.stages.course import Course, StageResult
from agentrl.stages.start import load_start, place_of, quietly


def run_sft(
    config: SFTRunConfig,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    allow_change: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> StageResult:
    """Fine-tune `sft.model` on conversations and save it to `sft.output` with its tokenizer.

    Args:
        run_dir: new or empty, `runs/NAME-TIME` by default; with `resume`, the run to go on with.
        allow_change: keys of the config, or `versions.train` and `versions.validation`, that a resumed run may change.

    Raises:
        ConfigError: a data file is missing, empty or malformed.
        BaselineError: the starting checkpoint cannot be loaded, or its chat template marks no assistant tokens.
        CheckpointError: the run directory is in use, incomplete, or belongs to another config.
        TrainingStopped: the loss is not a number any more.
    """
    with quietly():
        sft = config.sft
        reporter = reporter or SilentReporter()
        folder = place_of(config, run_dir, resume=resume)
        reporter.phase("loading checkpoint and data")
        tokenizer, model = load_start(config, "sft")
        ChatFormat(tokenizer)
        train = encode_file(tokenizer, Path(sft.train), sft.max_length)
        validation = encode_file(tokenizer, Path(sft.validation), sft.max_length) if sft.validation else []
        facts = {"conversations": len(train), "tokens": sum(len(row["input_ids"]) for row in train)}

        def make_trainer(arguments: dict[str, Any]) -> Any:
            from trl.trainer.sft_config import SFTConfig  # late: trl loads half of transformers

            from agentrl.stages.trainers import ConversationTrainer, as_dataset, on_one_device

            return ConversationTrainer(
                model=model,
                args=on_one_device(SFTConfig(**arguments)),
                train_dataset=as_dataset(train),
                eval_dataset=as_dataset(validation) if validation else None,
                processing_class=tokenizer,
            )

        lengths = [len(row["input_ids"]) for row in train]
        course = Course(config, "sft", model, tokenizer, lengths, facts, make_trainer)
        return course.run(folder, resume=resume, allow_change=allow_change, reporter=reporter)
