"""Supervised fine-tuning of a baseline with trl's SFTTrainer, loss on assistant tokens only."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentrl.chat import ChatFormat, for_template
from agentrl.config import SFTRunConfig
from agentrl.errors import BaselineError, ConfigError
from agentrl.policy.policy import folder_digest, weights_digest
from agentrl.policy.progress_bars import without_progress_bars

IGNORED = -100  # torch's cross entropy skips this label


def run_sft(config: SFTRunConfig) -> dict[str, Any]:
    """Fine-tune `sft.model` on conversations and save it to `sft.output` with its tokenizer.

    Returns:
        parameters, steps, tokens, train_loss and validation_loss (mean per assistant token, in nats), and the
        output's digest.

    Raises:
        ConfigError: a data file is missing, empty or malformed.
        BaselineError: the starting checkpoint cannot be loaded, or its chat template marks no assistant tokens.
    """
    with without_progress_bars(), redirect_stdout(sys.stderr):  # trl prints its log where results belong
        return _run(config)


def _run(config: SFTRunConfig) -> dict[str, Any]:
    sft = config.sft
    if sft.threads:
        torch.set_num_threads(sft.threads)
    tokenizer, model = _load(sft.model)
    ChatFormat(tokenizer)
    train = encode_file(tokenizer, Path(sft.train), sft.max_length)
    validation = encode_file(tokenizer, Path(sft.validation), sft.max_length) if sft.validation else None

    # Imported late: trl loads half of transformers. It must not look for a hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    output = Path(sft.output)
    unused = output.with_name(f".{output.name}.trl")  # trl wants a folder, even to save nothing in
    arguments = SFTConfig(
        output_dir=str(unused),
        num_train_epochs=sft.epochs,
        per_device_train_batch_size=sft.batch_size,
        per_device_eval_batch_size=sft.batch_size,
        learning_rate=sft.learning_rate,
        warmup_steps=sft.warmup_fraction,
        weight_decay=sft.weight_decay,
        lr_scheduler_type="cosine",
        train_sampling_strategy="group_by_length",
        max_length=None,  # cut by `encode`, ids and labels together
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        save_strategy="no",
        report_to="none",
        logging_steps=20,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(validation) if validation else None,
        processing_class=tokenizer,
    )
    outcome = trainer.train()
    result = {
        "parameters": model.num_parameters(),
        "steps": outcome.global_step,
        "tokens": sum(len(row["input_ids"]) for row in train),
        "train_loss": outcome.training_loss,
        "validation_loss": trainer.evaluate()["eval_loss"] if validation else None,
    }
    if sft.save_dtype == "float16":
        model.half()
    shutil.rmtree(unused, ignore_errors=True)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return result | {"output": str(output), "digest": folder_digest(output), "weights": weights_digest(model)}


def _load(folder: str) -> tuple[Any, Any]:
    if not Path(folder).is_dir():  # a name is not looked up on a hub
        raise BaselineError(f"sft.model: no folder {folder}; give the checkpoint's folder to start from")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return tokenizer, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise BaselineError(f"sft.model: {folder} cannot be loaded: {error}") from error


def encode_file(tokenizer: Any, path: Path, max_length: int) -> list[dict[str, list[int]]]:
    """Every conversation of a file, encoded.

    Raises:
        ConfigError: see `read_conversations`; or the template refuses one, or nothing is left to learn (file:line).
        BaselineError: see `encode`.
    """
    rows = []
    for number, messages in read_conversations(path):
        try:
            row = encode(tokenizer, messages, max_length)
        except BaselineError:
            raise
        except Exception as error:  # a template is a program: it may raise anything
            raise ConfigError(f"{path}:{number}: the chat template refuses this conversation ({error})") from error
        if all(label == IGNORED for label in row["labels"]):
            raise ConfigError(f"{path}:{number}: the assistant speaks behind sft.max_length ({max_length} tokens) only")
        rows.append(row)
    return rows


def read_conversations(path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The line number and the `messages` of each line.

    Raises:
        ConfigError: the file is missing or empty, or a line is not a conversation (file:line).
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give a JSONL of {{messages: [...]}}")
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                messages = json.loads(line)["messages"]
                if not isinstance(messages, list) or not all(isinstance(m["role"], str) for m in messages):
                    raise TypeError("messages are a list of objects with a role")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                found = f"found no conversation ({type(error).__name__}: {error})"
                raise ConfigError(f"{path}:{number}: {found}; a line is {{'messages': [...]}}") from error
            if not any(message["role"] == "assistant" for message in messages):
                raise ConfigError(f"{path}:{number}: no assistant message to learn from")
            count += 1
            yield number, messages
    if not count:
        raise ConfigError(f"{path}: holds no conversation")


def encode(tokenizer: Any, messages: list[dict[str, Any]], max_length: int) -> dict[str, list[int]]:
    """Ids, and labels that are -100 off the assistant's tokens, cut at `max_length`.

    Encoded here rather than by trl: a table of messages would give every tool call the union of all argument names.

    Raises:
        BaselineError: the chat template has no `{% generation %}` marks.
    """
    encoded = tokenizer.apply_chat_template(
        for_template(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    if not any(encoded["assistant_masks"]):
        raise BaselineError(
            "the chat template marks no assistant tokens: put {% generation %} ... {% endgeneration %} around "
            "what the assistant says"
        )
    ids, mask = encoded["input_ids"][:max_length], encoded["assistant_masks"][:max_length]
    labels = [token if is_assistant else IGNORED for token, is_assistant in zip(ids, mask, strict=True)]
    return {"input_ids": ids, "labels": labels}
