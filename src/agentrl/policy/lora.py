"""Low-rank adapters inside the model: the base weights are frozen, and are the reference when adapters are off.

The layers are put into the Hugging Face model itself, so everything that calls it (the trainer, the in-process
engine) samples from base and adapter without knowing. On disk an adapter has PEFT's format, which vLLM reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from agentrl.config import LoRAConfig
from agentrl.errors import BaselineError

NAME = "default"
BASE = ".base_layer"  # what PEFT adds to the name of a layer's own weights
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def add_adapter(model: Any, config: LoRAConfig, *, place: str = "policy.lora") -> None:
    """Freeze the model and give its linear layers adapters; they start as no change at all (B is zero).

    Adapters are float32 beside base weights of any precision: a small step would vanish in bfloat16.

    Args:
        place: where the config stands, for messages.

    Raises:
        BaselineError: the model has no layers of the configured names.
    """
    peft_config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        target_modules="all-linear" if config.target_modules is None else list(config.target_modules),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    try:
        model.add_adapter(peft_config, NAME)
    except ValueError as error:  # PEFT names the modules that it did not find
        raise BaselineError(f"{place}: the baseline cannot have such adapters: {error}") from error
    for parameter in adapter_parameters(model).values():
        parameter.data = parameter.data.float()


def has_adapter(model: nn.Module) -> bool:
    return any(isinstance(module, LoraLayer) for module in model.modules())


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapters' weights by their names in the model."""
    layers = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    inside = tuple(f"{layer}.lora_" for layer in layers)
    return {name: parameter for name, parameter in model.named_parameters() if name.startswith(inside)}


def base_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """All other weights, by the names that they have in a model without adapters."""
    adapter = adapter_parameters(model)
    return {name.replace(BASE, ""): parameter for name, parameter in model.named_parameters() if name not in adapter}


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """The model as it was before training, inside."""
    if not has_adapter(model):
        yield
        return
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' weights by the names that PEFT's files give them."""
    return {_name_on_disk(name): parameter.detach() for name, parameter in adapter_parameters(model).items()}


def _name_on_disk(name: str) -> str:
    return f"base_model.model.{name.replace(f'.{NAME}.', '.')}"


def save_adapter(model: Any, folder: Path) -> None:
    """Write PEFT's two files into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    model.peft_config[NAME].save_pretrained(folder)
    tensors = {name: tensor.contiguous() for name, tensor in adapter_tensors(model).items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


@torch.no_grad()
def fill_adapter(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put stored weights into the adapters, in place.

    Raises:
        RuntimeError: they are those of other layers or of another rank.
    """
    own = adapter_tensors(model)
    if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
        raise RuntimeError(f"it holds an adapter of other layers or another rank ({len(tensors)} tensors)")
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


@torch.no_grad()
def clear_adapter(model: nn.Module) -> None:
    """Make the adapters say nothing: the model is its base again, as before training."""
    for name, tensor in adapter_tensors(model).items():
        if ".lora_B." in name:
            tensor.zero_()


@torch.no_grad()
def save_merged(model: Any, folder: Path) -> None:
    """Write an ordinary model that says the same without adapters; `model` stays as it is.

    Not merged in place: taking an adapter out again would leave rounding errors in the reference.
    """
    state = {name: parameter.detach() for name, parameter in base_parameters(model).items()}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = (weight + module.get_delta_weight(NAME)).to(weight.dtype)  # type: ignore[attr-defined]
    with torch.device("meta"):
        whole = type(model)(model.config)  # a shell without memory of its own
    if hasattr(model, "generation_config"):  # a classifier has none
        whole.generation_config = model.generation_config
    whole.load_state_dict(state, strict=False, assign=True)  # not strict: tied weights stand in the state once
    whole.tie_weights()
    whole.save_pretrained(folder)
