"""The classifier that training starts from: the baseline's trunk under one output that begins at 0."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from agentrl.config import RewardModelRunConfig
from agentrl.errors import BaselineError
from agentrl.policy.lora import add_adapter
from agentrl.stages.start import prepare_start, stop_attention_dropout


def load_classifier(config: RewardModelRunConfig) -> tuple[Any, Any]:
    """Tokenizer and model.

    transformers' classifier reads its number at the last token that is not padding, and knows padding by its id. So
    the id has to be one that no episode ends with: where the tokenizer pads with the token that ends turns, or not at
    all, another control token takes its part.

    Raises:
        BaselineError: the checkpoint is missing or cannot be loaded.
        ConfigError: `output` cannot be written to without losing something else.
    """
    section = config.reward_model
    folder = prepare_start(section, "reward_model", config.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise BaselineError(f"reward_model.model: {folder} cannot be loaded as a classifier: {error}") from error
    heads = [name for name, module in model.named_modules() if _is_head(module) and name]
    if missing := sorted(name for name in info["missing_keys"] if name.rpartition(".")[0] not in heads):
        raise BaselineError(f"reward_model.model: {folder} lacks {len(missing)} weights, {missing[0]} first")
    for name in heads:
        model.get_submodule(name).weight.data.zero_()  # no preference before the first step
    stop_attention_dropout(model)
    model.config.get_text_config().use_cache = False
    pad_token = padding_of(tokenizer)
    tokenizer.pad_token = pad_token
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    if section.lora is not None:
        add_adapter(model, section.lora, place="reward_model.lora")
    return tokenizer, model


def _is_head(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear) and module.out_features == 1 and module.bias is None


def padding_of(tokenizer: Any) -> str:
    """A token that ends no episode; without any, the one that ends all of them, and the number is read before it."""
    if tokenizer.pad_token is not None and tokenizer.pad_token != tokenizer.eos_token:
        return str(tokenizer.pad_token)
    special = [str(t.content) for t in tokenizer.added_tokens_decoder.values() if t.special]
    template = tokenizer.chat_template or ""
    others = [token for token in special if token != tokenizer.eos_token and token not in template]
    return others[0] if others else str(tokenizer.eos_token)
