"""Reference, loss and backward pass, by agentrl and by trl: GRPO, token mean, one minibatch, KL (k3) in the loss."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from agentrl.config import PolicyConfig
from agentrl.policy.policy import Policy
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.kl import kl_estimate
from agentrl.ppo.loss import policy_loss, probability_ratio, token_weights
from agentrl.ppo.microbatches import microbatches

from .batches import Batch

BETA, CLIP = 0.04, 0.2
TOKENIZER = Path(__file__).parents[2] / "examples" / "finqa" / "baseline"  # of a tiny vocabulary: nothing is decoded


def make_checkpoint(folder: Path, **shape: Any) -> Path:
    """A random Qwen3 beside the example's tokenizer; by default the 3.67 M weights that the rollouts are timed with."""
    torch.manual_seed(0)
    default = {
        "vocab_size": 3072,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    }
    Qwen3ForCausalLM(Qwen3Config(**{**default, **shape})).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    return folder


def _load(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model, AutoTokenizer.from_pretrained(folder)


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


class Ours:
    """The passes of PPOTrainer, without its critic.

    Args:
        microbatch_tokens: see `ppo.microbatch_tokens`.
    """

    def __init__(self, folder: Path) -> None:
        self._policy = Policy(*_load(folder), PolicyConfig())
        self._reference = ReferencePolicy.freeze(self._policy)
        self.model = self._policy.model

    def update(self, batch: Batch, microbatch_tokens: int) -> None:
        """Leaves the gradients on the model."""
        self.model.zero_grad(set_to_none=True)
        weights = token_weights(batch.action_mask, "token_mean")
        mask_and_ids: Any = batch
        for piece in microbatches(mask_and_ids, microbatch_tokens, packs=self._policy.packs):
            width = max(batch.lengths[row] for row in piece.tolist())
            ids, mask = batch.token_ids[piece, :width], batch.action_mask[piece, :width]
            reference = self._reference.logprobs(ids, mask)
            logprobs = self._policy.evaluate(ids, mask, with_values=False).logprobs
            ratio = probability_ratio(logprobs, logprobs.detach())
            advantages = batch.advantages[piece, None].expand(ids.shape)
            loss = policy_loss(ratio, advantages, clip_low=CLIP, clip_high=CLIP, dual_clip=None)
            loss = loss + BETA * kl_estimate(logprobs, reference, "k3")
            (weights[piece, :width] * loss).sum().backward()


class Trl:
    """GRPOTrainer's own passes; prompts are padded on the left and completions on the right, as it does."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        model, tokenizer = _load(folder)
        quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
        same = {"beta": BETA, "loss_type": "dapo", "epsilon": CLIP, "temperature": 1.0, "num_generations": 4}
        plain = {"gradient_checkpointing": False, "bf16": False, "use_cpu": True}
        config = GRPOConfig(tempfile.gettempdir(), per_device_train_batch_size=4, **same, **plain, **quiet)
        self._trainer = GRPOTrainer(
            model=model,
            args=config,
            processing_class=tokenizer,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=Dataset.from_list([{"prompt": "x"}] * 4),
        )
        self._trainer.ref_model.eval()
        self.model = self._trainer.model.train()  # no dropout: the mode chooses the loss's normaliser

    def update(self, batch: Batch, rows_at_once: int) -> None:
        """Leaves the gradients on the model; `rows_at_once` is its per-device batch size."""
        trainer = self._trainer
        self.model.zero_grad(set_to_none=True)
        trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation  # the whole batch is one step
        inputs = self._inputs(batch)
        keep = inputs["completion_ids"].shape[1]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        with torch.no_grad():
            inputs["ref_per_token_logps"] = trainer._get_per_token_logps_and_entropies(
                trainer.ref_model, ids, mask, keep, batch_size=rows_at_once
            )[0]
        total = inputs["tool_mask"].sum()
        for start in range(0, len(ids), rows_at_once):
            part = {name: each[start : start + rows_at_once] for name, each in inputs.items()}
            trainer.compute_loss(self.model, {**part, "num_items_in_batch": total}).backward()

    @staticmethod
    def _inputs(batch: Batch) -> dict[str, Tensor]:
        prompt, completion = (
            max(batch.prompts),
            max(n - p for n, p in zip(batch.lengths, batch.prompts, strict=True)),
        )
        shape = len(batch.prompts)
        inputs = {
            "prompt_ids": torch.zeros(shape, prompt, dtype=torch.long),
            "prompt_mask": torch.zeros(shape, prompt, dtype=torch.long),
            "completion_ids": torch.zeros(shape, completion, dtype=torch.long),
            "completion_mask": torch.zeros(shape, completion, dtype=torch.long),
            "tool_mask": torch.zeros(shape, completion, dtype=torch.long),
        }
        for row, (p, n) in enumerate(zip(batch.prompts, batch.lengths, strict=True)):
            inputs["prompt_ids"][row, prompt - p :] = batch.token_ids[row, :p]
            inputs["prompt_mask"][row, prompt - p :] = 1
            inputs["completion_ids"][row, : n - p] = batch.token_ids[row, p:n]
            inputs["completion_mask"][row, : n - p] = 1
            inputs["tool_mask"][row, : n - p] = batch.action_mask[row, p:n].long()
        return inputs | {"advantages": batch.advantages}


SIDES: dict[str, Callable[[Path], Any]] = {"agentrl": Ours, "trl": Trl}
