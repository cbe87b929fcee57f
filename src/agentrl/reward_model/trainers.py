"""trl's RewardTrainer in a run directory, on token ids that were rendered and measured before.

Importing this file loads trl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.utils import pad

from agentrl.stages.trainers import InRunDirectory

if TYPE_CHECKING:
    TrainerBase = Any
else:
    TrainerBase = RewardTrainer


class ComparisonTrainer(InRunDirectory, TrainerBase):  # type: ignore[misc]
    """Bradley-Terry on rows of `chosen_ids`, `rejected_ids` and perhaps `margin`; loss and metrics are trl's.

    L = -log sigmoid(r_chosen - r_rejected - margin) + c * (r_chosen + r_rejected)^2
    """

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # trl would drop what is longer than max_length without a word


class ScoreTrainer(InRunDirectory, TrainerBase):  # type: ignore[misc]
    """Cross entropy of sigmoid(reward) and a score from 0 to 1: a proper scoring rule, so the reward is a logit."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns: Any = ["input_ids", "target"]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        del num_items_in_batch
        targets = inputs.pop("targets")
        outputs = model(**inputs, use_cache=False)
        rewards = outputs.logits.squeeze(-1)
        loss = binary_cross_entropy_with_logits(rewards, targets)
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["mean_reward"].append(rewards.mean().item())
        return (loss, outputs) if return_outputs else loss


class ScoreCollator:
    """Rows of `input_ids` and `target` as one batch, padded on the right."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        return {
            "input_ids": pad(ids, padding_value=self.pad_token_id, padding_side="right"),
            "attention_mask": pad([torch.ones_like(each) for each in ids], padding_value=0, padding_side="right"),
            "targets": torch.tensor([row["target"] for row in rows], dtype=torch.float),
        }
