"""What comes before a stage's first step: a place to work in, the checkpoint to start from, and quiet libraries."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.utils import logging

from agentrl.config import DPORunConfig, SFTRunConfig, StageConfig, StageRunConfig
from agentrl.errors import BaselineError, CheckpointError, ConfigError
from agentrl.policy.lora import add_adapter
from agentrl.progress_bars import without_progress_bars
from agentrl.runs import default_run_dir
from agentrl.runs.place import check_place


def place_of(config: StageRunConfig, run_dir: Path | None, *, resume: bool) -> Path:
    """The run directory, found fit before anything is loaded.

    Raises:
        CheckpointError: it cannot be made, or there is no run to resume.
        ConfigError: a launcher started several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("a stage trains in one process: start it without a launcher (`agentrl train` takes several)")
    if resume and run_dir is None:
        raise CheckpointError("resume needs to know the run: give its run directory")
    folder = run_dir or default_run_dir(config.name)
    check_place(folder, resume=resume)
    return folder


def load_start(config: SFTRunConfig | DPORunConfig, name: str) -> tuple[Any, Any]:
    """Tokenizer and model that the stage starts from, with fresh adapters where it trains such.

    Raises:
        BaselineError: the checkpoint is missing, cannot be loaded, or cannot have these adapters.
        ConfigError: `output` cannot be written to without losing something else.
    """
    section: StageConfig = getattr(config, name)
    folder = prepare_start(section, name, config.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise BaselineError(f"{name}.model: {folder} cannot be loaded: {error}") from error
    if section.lora is not None:
        add_adapter(model, section.lora, place=f"{name}.lora")
    return tokenizer, model


def prepare_start(section: StageConfig, name: str, seed: int) -> Path:
    """The folder to start from, once it is there, the output may be written, and threads and seed are set.

    Raises:
        BaselineError, ConfigError: see `load_start`.
    """
    _check_output(section, name)
    if section.threads:
        torch.set_num_threads(section.threads)
    set_seed(seed)  # adapters begin with random numbers
    folder = Path(section.model)
    if not folder.is_dir():  # a name is not looked up on a hub
        raise BaselineError(f"{name}.model: no folder {folder}; give the checkpoint's folder to start from")
    return folder


def stop_attention_dropout(model: Any) -> None:
    """trl takes out the layers that drop; attention drops by a number of its own, and would make of one model many."""
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _check_output(section: StageConfig, name: str) -> None:
    """Refuse to replace what is no checkpoint, or the one that is started from."""
    output = Path(section.output)
    if output.resolve() == Path(section.model).resolve():
        raise ConfigError(f"{name}.output: {output} is {name}.model too; name another folder")
    is_other = output.is_dir() and any(output.iterdir()) and not (output / "config.json").is_file()
    if is_other or (output.exists() and not output.is_dir()):
        raise ConfigError(f"{name}.output: {output} is there, and is no checkpoint; name another folder")


@contextmanager
def quietly() -> Iterator[None]:
    """trl and transformers print logs where results belong, draw bars, look for a hub, and explain themselves."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import datasets

    verbosity = logging.get_verbosity()
    datasets.disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with without_progress_bars(), redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what transformers will rename
            yield
    finally:
        logging.set_verbosity(verbosity)
