"""DPO on multi-step segments with trl's DPOTrainer (arXiv:2305.18290; segments: arXiv:2501.01821).

L = -log sigmoid(beta * [(log pi - log pi_ref)(chosen) - (log pi - log pi_ref)(rejected)])

log pi of a segment is the sum over its action tokens: the shared prefix is not part of it, what tools said is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft.tuners.lora import LoraLayer

from agentrl.config import DPORunConfig
from agentrl.errors import ConfigError
from agentrl.progress import Reporter, SilentReporter
from agentrl.stages.course import Course, StageResult
from agentrl.stages.pair_file import Row, keep_short, longest, read_pairs
from agentrl.stages.start import load_start, place_of, quietly, stop_attention_dropout


def run_dpo(
    config: DPORunConfig,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    allow_change: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> StageResult:
    """Train `dpo.model` on pairs of segments and save it to `dpo.output` with its tokenizer.

    The reference is `dpo.model` itself.

    Args:
        run_dir: new or empty, `runs/NAME-TIME` by default; with `resume`, the run to go on with.
        allow_change: keys of the config, or `versions.train` and `versions.validation`, that a resumed run may change.

    Raises:
        ConfigError: a file of pairs is missing, empty, malformed, of another tokenizer, or has too many long ones.
        BaselineError: the starting checkpoint cannot be loaded.
        CheckpointError: the run directory is in use, incomplete, or belongs to another config.
        TrainingStopped: the loss is not a number any more.
    """
    with quietly():
        dpo = config.dpo
        reporter = reporter or SilentReporter()
        folder = place_of(config, run_dir, resume=resume)
        reporter.phase("loading checkpoint and data")
        tokenizer, model = load_start(config, "dpo")
        if isinstance(model.get_output_embeddings(), LoraLayer):  # trl multiplies by the layer's own weights
            raise ConfigError("dpo.lora.target_modules: found the output layer; allowed: any other linear layer")
        stop_attention_dropout(model)
        facts: dict[str, Any] = {}
        train = _pairs(config, dpo.train, tokenizer, "", facts)
        validation = _pairs(config, dpo.validation, tokenizer, "validation_", facts) if dpo.validation else []

        def make_trainer(arguments: dict[str, Any]) -> Any:
            from trl.trainer.dpo_config import DPOConfig  # late: trl loads half of transformers

            from agentrl.stages.trainers import SegmentCollator, SegmentTrainer, as_dataset, on_one_device

            return SegmentTrainer(
                model=model,
                args=on_one_device(DPOConfig(**arguments, beta=dpo.beta, precompute_ref_log_probs=True)),
                data_collator=SegmentCollator(pad_token_id=pad_id(tokenizer)),
                train_dataset=as_dataset(train),
                eval_dataset=as_dataset(validation) if validation else None,
                processing_class=tokenizer,
            )

        course = Course(config, "dpo", model, tokenizer, [longest(row) for row in train], facts, make_trainer)
        return course.run(folder, resume=resume, allow_change=allow_change, reporter=reporter)


def _pairs(config: DPORunConfig, path: str, tokenizer: Any, prefix: str, facts: dict[str, Any]) -> list[Row]:
    """The pairs of a file; how many there are, and were dropped, joins the facts."""
    read = read_pairs(Path(path), tokenizer)
    kept = keep_short(
        read, Path(path), max_length=config.dpo.max_length, max_dropped_fraction=config.dpo.max_dropped_fraction
    )
    facts |= {f"{prefix}pairs": len(kept), f"{prefix}pairs_dropped": len(read) - len(kept)}
    facts[f"{prefix}action_tokens"] = sum(sum(row["chosen_mask"]) + sum(row["rejected_mask"]) for row in kept)
    return kept


def pad_id(tokenizer: Any) -> int:
    """Any id does: padding is masked, and stands behind what attends."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return 0 if found is None else int(found)
