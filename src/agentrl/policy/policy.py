"""The policy being trained: a causal LM, its tokenizer's chat format, and a value head."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_layers import GradientCheckpointingLayer

from agentrl.chat import ChatFormat, check_append_only, load_template
from agentrl.config import PolicyConfig, RunConfig
from agentrl.disk import file_digest
from agentrl.errors import BaselineError, ConfigError
from agentrl.policy.critic import copy_trunk, make_critic
from agentrl.policy.logprobs import chunked_logprobs
from agentrl.policy.lora import add_adapter
from agentrl.policy.packing import Padded, PrefixTree, can_pack, recompute
from agentrl.policy.shards import whole

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
DIGESTED_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")  # weights, configs, every tokenizer format


@dataclass(frozen=True)
class PolicyOutput:
    """What one forward pass says about given tokens; every field [B, T], zero off the action mask."""

    logprobs: Tensor
    """Log-probability of token t given the tokens before it, at the sampling temperature, in nats."""
    entropy: Tensor
    """Entropy of the distribution that token t was drawn from, in nats."""
    values: Tensor
    """V(tokens before t): what the critic expected before the token was chosen."""


class Policy:
    """A causal LM and its value head on one device.

    Attributes:
        model: the Hugging Face model, with its adapters where it has any; the in-process engine samples from these
            very weights.
        value_head: the critic.
        chat: the tokenizer's chat format.
        version: number of optimiser updates behind these weights; stamped on every sampled turn.
        packs: whether passes compute what rows begin with in common once, and no padding.

    Raises:
        BaselineError: the tokenizer writes ids that the model has no embedding for, or lacks the tool-call syntax;
            or the architecture cannot do what `config` asks for.
    """

    def __init__(self, model: Any, tokenizer: Any, config: PolicyConfig, *, temperature: float = 1.0) -> None:
        known = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > known:
            raise BaselineError(
                f"the tokenizer has {len(tokenizer)} tokens, the model embeddings for {known}: "
                "they do not belong together; restore the tokenizer that the checkpoint was trained with"
            )
        trunk = copy_trunk(model, config)  # before it has adapters
        if config.lora is not None:
            add_adapter(model, config.lora)
        self.model = model.eval()  # no dropout anywhere: with it the first ratio would not be 1
        self.packs = can_pack(model)
        self._vocabulary = known
        self.tokenizer = tokenizer
        self.chat = ChatFormat(tokenizer)
        self.temperature = temperature
        self.version = 0
        self.device: torch.device = next(model.parameters()).device
        self.value_head = make_critic(model.config.get_text_config().hidden_size, config, trunk).to(self.device)
        models = [each for each in (model, trunk) if each is not None and config.gradient_checkpointing]
        self._checkpointed = [layer for each in models for layer in _checkpointed_layers(each)]

    def arrange(self, token_ids: Tensor, action_mask: Tensor) -> PrefixTree | Padded:
        """The rows as the model's passes take them."""
        return (PrefixTree if self.packs else Padded).of(token_ids, action_mask)

    def value_features(self, token_ids: Tensor, action_mask: Tensor) -> Tensor:
        """[actions, hidden size] What the value head reads before each action: of its own trunk, or of the policy's."""
        rows = self.arrange(token_ids, action_mask)
        return self._run(self.value_head.trunk or self.model.base_model, rows)[0][rows.before]

    def evaluate(
        self,
        token_ids: Tensor,
        action_mask: Tensor,
        *,
        with_entropy_gradient: bool = False,
        with_values: bool = True,
    ) -> PolicyOutput:
        """Log-probabilities, entropies and values of the action tokens.

        What rows have in common is computed once, and nothing is after a row's last action. The one-token shift
        happens here and nowhere else: action token t is described by the hidden state at t - 1.

        Args:
            token_ids: [B, T], padded on the right.
            action_mask: [B, T] bool; the first column is False.
            with_entropy_gradient: let a gradient flow through the entropy.
            with_values: ask the critic; without it the values are 0 and a critic's own trunk is not run.
        """
        rows = self.arrange(token_ids, action_mask)
        hidden, output = self._run(self.model.base_model, rows)
        places, readers = torch.unique(rows.before, return_inverse=True)  # rows may draw from one distribution
        states = hidden[places]
        logprobs, entropy = chunked_logprobs(
            partial(self.head_logits, output),
            states,
            readers,
            token_ids[action_mask],
            temperature=self.temperature,
            vocabulary=self._vocabulary,
            with_entropy_gradient=with_entropy_gradient,
        )
        values = torch.zeros_like(logprobs)
        if with_values:
            trunk = self.value_head.trunk
            features = states if trunk is None else self._run(trunk, rows)[0][places]
            values = self.value_head(features)[readers]
        return PolicyOutput(*(_spread(part, action_mask) for part in (logprobs, entropy[readers], values)))

    def _run(self, trunk: Any, rows: PrefixTree | Padded) -> tuple[Tensor, Any]:
        """Hidden states [N, hidden size] of the arranged tokens, and all that the trunk said."""
        with self._recomputed_layers():
            output = rows.run(trunk)
        return output.last_hidden_state.flatten(0, 1), output

    def head_logits(self, output: Any, states: Tensor) -> Tensor:
        """[n, V] logits of hidden states [n, hidden size].

        The model's own forward pass computes them (some architectures scale or cap them), with a trunk that has these
        states ready.

        Args:
            output: of the trunk, for what else the model may ask of it.
        """
        trunk = self.model.base_model
        own = vars(trunk).get("forward")
        output.last_hidden_state = states[None]
        trunk.forward = lambda *_, **__: output
        blank = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        try:
            logits: Tensor = self.model(input_ids=blank, use_cache=False).logits[0]
        finally:
            if own is None:
                del trunk.forward
            else:
                trunk.forward = own
        return logits

    @torch.no_grad()
    def score(self, token_ids: Sequence[int], start: int, temperatures: Sequence[float]) -> list[tuple[float, ...]]:
        """Log-probabilities of `token_ids[start:]`, each given all tokens before it, at each of the temperatures."""
        ids = torch.tensor([token_ids], device=self.device)
        is_scored = torch.arange(len(token_ids), device=self.device)[None] >= start
        rows = self.arrange(ids, is_scored)
        hidden, output = self._run(self.model.base_model, rows)
        states = hidden[rows.before]
        readers = torch.arange(len(states), device=self.device)
        head = partial(self.head_logits, output)
        scores = (
            chunked_logprobs(head, states, readers, ids[is_scored], temperature=each, vocabulary=self._vocabulary)[0]
            for each in temperatures
        )
        return [tuple(each.tolist()) for each in scores]

    @contextmanager
    def _recomputed_layers(self) -> Iterator[None]:
        """Gradient checkpointing, where it was asked for.

        Transformers recomputes a layer only in training mode, and then drops the layer's cache. So each layer, but
        no dropout below it, is in training mode during a forward pass that will be differentiated, and only then:
        the engine samples from these same layers.
        """
        for layer in self._checkpointed:
            layer.training = torch.is_grad_enabled()
        try:
            yield
        finally:
            for layer in self._checkpointed:
                layer.training = False

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Every trainable parameter, `model.` and `value_head.` before its name."""
        for prefix, module in (("model", self.model), ("value_head", self.value_head)):
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    yield f"{prefix}.{name}", parameter

    def digest(self) -> str:
        """sha256 of the language model's weights (names, shapes, bytes)."""
        return weights_digest(self.model)


def _checkpointed_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that transformers can recompute, told to do so in training mode."""
    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise BaselineError(
            f"policy.gradient_checkpointing: {type(model).__name__} has no layers that can be recomputed; "
            "set it to false"
        )
    for layer in layers:
        layer.gradient_checkpointing = True  # type: ignore[assignment]
        layer._gradient_checkpointing_func = partial(recompute, getattr(model, "config", None))  # type: ignore[assignment]
    return layers


def _spread(values: Tensor, action_mask: Tensor) -> Tensor:
    """[actions] back to [B, T], zero elsewhere."""
    return torch.zeros(action_mask.shape, dtype=values.dtype, device=values.device).masked_scatter(action_mask, values)


def weights_digest(model: nn.Module) -> str:
    """sha256 over every parameter's name, shape and bytes."""
    return parameters_digest(dict(model.named_parameters()))


def parameters_digest(named: Mapping[str, nn.Parameter]) -> str:
    """sha256 over names, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(named.items()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(whole(parameter.detach()).flatten().view(torch.uint8).cpu().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def folder_digest(folder: Path) -> str:
    """sha256 over what a checkpoint folder means: weights, config and tokenizer; not its model card."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in DIGESTED_SUFFIXES:
            digest.update(path.name.encode())
            digest.update(bytes.fromhex(file_digest(path)))
    return f"sha256:{digest.hexdigest()}"


def check_baseline(path: str, pinned_digest: str | None = None) -> Path:
    """The baseline's folder.

    Raises:
        BaselineError: it is missing, holds no weights, or is not the one that the config pins.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BaselineError(f"workflow.baseline: no folder {path}; give the SFT checkpoint's folder")
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        raise BaselineError(f"workflow.baseline: {path} holds no {WEIGHT_FILES[0]} (safetensors weights)")
    if pinned_digest and (found := folder_digest(folder)) != pinned_digest:
        raise BaselineError(
            f"workflow.baseline: {path} changed: workflow.baseline_digest pins {pinned_digest}, found {found}; "
            "restore the checkpoint, or pin the new one on purpose"
        )
    return folder


def pick_device(wanted: str) -> torch.device:
    """The device a config asks for.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("policy.device: cuda was asked for, and torch sees no GPU here; use auto or cpu")
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def load_policy(config: RunConfig) -> Policy:
    """The policy at its baseline, in the configured precision on the configured device.

    Raises:
        BaselineError: the baseline cannot be loaded, lacks the tool-call syntax, or its chat template rewrites turns.
        ConfigError: the device does not exist.
    """
    device = pick_device(config.policy.device)
    if config.policy.threads:
        torch.set_num_threads(config.policy.threads)
    folder = check_baseline(config.workflow.baseline, config.workflow.baseline_digest)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if config.workflow.chat_template:
            tokenizer.chat_template = load_template(config.workflow.chat_template)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, config.policy.dtype),
            attn_implementation=config.policy.attn_implementation,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise BaselineError(f"workflow.baseline: {folder} cannot be loaded: {error}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):  # transformers would train from random numbers there
        raise BaselineError(f"workflow.baseline: {folder} lacks {len(missing)} weights, {missing[0]} first")
    torch.manual_seed(config.seed)  # the value head's first layer
    policy = Policy(model.to(device), tokenizer, config.policy, temperature=config.inference.temperature)
    check_append_only(policy.chat)
    return policy
