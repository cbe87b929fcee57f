"""trl's trainers, as far as ours differ: the order of the examples, checkpoints without pickles, masked segments.

Importing this file loads trl.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import pad

from agentrl.stages.checkpoint import load_optimizer, load_rng, load_weights, save_state

if TYPE_CHECKING:
    TrainerBase = Any
else:
    TrainerBase = object


class InRunDirectory(TrainerBase):  # type: ignore[misc]
    """What a trainer of transformers' does differently inside a run directory."""

    keep_last: int
    order: list[int]

    def place(self, *, order: list[int], keep_last: int) -> None:
        """Give it the order of the examples (see `training_order`), and say how many checkpoints to keep."""
        self.order, self.keep_last = order, keep_last
        self.remove_callback(PrinterCallback)  # it prints to stdout, where results belong

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        del train_dataset
        return self.order

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """transformers' own would be pickles, and would not be there whole or not at all."""
        del model, trial
        save_state(Path(self.args.output_dir), self, self.keep_last)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del model
        load_weights(Path(resume_from_checkpoint), self.model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_optimizer(Path(checkpoint), self.optimizer, self.lr_scheduler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_rng(Path(checkpoint))


class ConversationTrainer(InRunDirectory, SFTTrainer):
    """Supervised fine-tuning on rows of `input_ids` and `labels`."""


class SegmentTrainer(InRunDirectory, DPOTrainer):
    """DPO on rows of token ids and masks; the loss, its metrics and the plumbing are trl's.

    The reference is the model as it is handed in. What it says about every segment is computed once, before the first
    step: a second model, or a second forward pass a step, is not needed, and adapters start as no change at all.
    """

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # trl would render text and tokenize it; these are the ids that were sampled

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns: Any = [*PAIR_COLUMNS, "ref_chosen_logps", "ref_rejected_logps"]

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Sums of log-probabilities of the segments under the reference, as two new columns.

        trl's own keeps them in a cache of files that is keyed by a hash of the model.
        """
        del name
        by_length = sorted(range(len(dataset)), key=lambda i: len(dataset[i]["prompt_ids"]))  # little padding
        found: dict[int, tuple[float, float]] = {}
        for start in range(0, len(by_length), batch_size):
            indices = by_length[start : start + batch_size]
            batch = self._prepare_inputs(self.data_collator([dataset[i] for i in indices]))
            chosen, rejected = self.compute_ref_log_probs(self.model, batch)  # type: ignore[no-untyped-call]
            found |= dict(zip(indices, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
        columns = zip(*(found[i] for i in range(len(dataset))), strict=True)
        for column, values in zip(("ref_chosen_logps", "ref_rejected_logps"), columns, strict=True):
            dataset = dataset.add_column(column, list(values))
        return dataset


PAIR_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask")


class SegmentCollator(DataCollatorForPreference):
    """trl's batch of a prefix and two continuations, of which only the masked-in tokens count.

    The mask takes out what tools said inside a segment; trl has the prefix out already.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        masks = [
            torch.tensor([0] * len(example["prompt_ids"]) + list(map(int, example[f"{side}_mask"])))
            for side in ("chosen", "rejected")
            for example in examples
        ]
        batch["completion_mask"] = pad(masks, padding_value=0, padding_side="right")
        return batch


def on_one_device(arguments: Any) -> Any:
    """Arguments under which the first of several visible GPUs is taken; transformers would spread batches over all."""
    arguments.device  # noqa: B018  (looking at it counts the GPUs)
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def as_dataset(rows: list[dict[str, Any]]) -> Any:
    """Rows as trl's trainers take them."""
    return Dataset.from_list(rows)
