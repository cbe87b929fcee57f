"""Checks of a process's first update: engine and trainer mean the same weights, and what should be trained is.

What they look for has gone unseen for thousands of steps elsewhere: attention sinks that a kernel leaves out, adapters
that get no gradient, a value head that the optimiser was never told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from agentrl.config import PPOConfig
from agentrl.errors import TrainingStopped
from agentrl.policy.lora import adapter_parameters, has_adapter
from agentrl.policy.policy import Policy
from agentrl.policy.shards import whole
from agentrl.ppo.batch import make_batch
from agentrl.ppo.mismatch import mismatch_metrics
from agentrl.ppo.optimizer import stepped
from agentrl.ppo.trainer import PPOTrainer
from agentrl.types import Trajectory

PROBED = 4  # trajectories
SHOWN = 8  # names in a message
SINKS = ("sinks", "s_aux")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


class CheckFailed(TrainingStopped):
    """An update that was taken turns out to have left something untrained: the step before it is the good one."""


class FirstUpdate:
    """The checks of one process, until its first update has passed them.

    Args:
        engine: how the engine computes attention, for messages.
    """

    def __init__(self, ppo: PPOTrainer, *, engine: str) -> None:
        self.ppo, self.engine = ppo, engine
        self.delicate = delicate_parts(ppo.policy.model)
        self._is_probed = False
        self._zero: frozenset[str] | None = None

    @property
    def attention(self) -> str:
        """Which attention trainer and engine compute, and why that matters."""
        found = f"attention: {trainer_attention(self.ppo.policy)} in the trainer, {self.engine} in the engine"
        return f"{found}; the model has {' and '.join(self.delicate)}" if self.delicate else found

    def before(self, trajectories: Sequence[Trajectory]) -> None:
        """Compare engine and trainer on a few trajectories of the present weights, once.

        Raises:
            TrainingStopped: they do not mean the same policy. Of a model with attention sinks or experts, less is
                tolerated.
        """
        version = self.ppo.policy.version
        fresh = [each for each in trajectories if {*each.policy_versions} <= {-1, version}][:PROBED]
        if self._is_probed or not fresh:
            return
        self._is_probed = True
        guards = self.ppo.config.guards
        limit = guards.warn_mismatch_prob if self.delicate else guards.max_mismatch_prob
        found = probe(self.ppo.policy, fresh)
        for name, most in (("mismatch_abs_prob_mean", limit), ("mismatch_kl", guards.max_mismatch_kl)):
            if most is not None and not found[name] <= most:
                raise TrainingStopped(
                    "mismatch_probe",
                    f"before the first update, on {len(fresh)} rollouts, {name} is {found[name]:.4g} (allowed: "
                    f"{most:g}): engine and trainer do not sample from the same distribution; {self.attention}; "
                    "compare precision, temperature and weights of the two",
                )

    def after(self, metrics: Mapping[str, float]) -> None:
        """Look at the gradients and the optimiser's state that an update left behind, until one has shown everything.

        A gradient that is zero may be zero for want of a signal in a single update (A of a new LoRA adapter, whose B is
        zero; the lower layers of a fresh value head): it is an error where it is zero in two.

        Raises:
            CheckFailed: naming the parameters.
        """
        had_step = metrics.get("optimizer_steps", 0) > 0 and not metrics.get("skipped_optimizer_steps", 0)
        if self._zero == frozenset() or not had_step:
            return
        if wrong := untrained(self.ppo.policy, self.ppo.optimizer, self.ppo.config):
            raise CheckFailed("untrained_parameters", _listed(wrong))
        zero = zero_gradients(self.ppo.policy, self.ppo.config)
        if zero >= {name for name in meant_to_train(self.ppo.policy, self.ppo.config) if name.startswith("model.")}:
            return  # every token of the last minibatch was clipped: nothing to be learned from it
        if self._zero is not None and (always := sorted(zero & self._zero)):
            raise CheckFailed("untrained_parameters", _listed([f"{name}: its gradient is zero" for name in always]))
        self._zero = zero if self._zero is None else frozenset()


def probe(policy: Policy, trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Mismatch metrics of the engine's log-probabilities on these trajectories, evaluated one by one."""
    batch = make_batch(trajectories, pad_id=policy.chat.stop_id).to(policy.device)
    logprobs = torch.zeros_like(batch.engine_logprobs)
    with torch.no_grad():
        for index in range(len(batch)):
            row = torch.tensor([index])
            part = batch.rows(row)
            found = policy.evaluate(part.token_ids, part.action_mask, with_values=False).logprobs
            logprobs[row, : found.shape[1]] = found.to(logprobs)
    return mismatch_metrics(logprobs, batch.engine_logprobs, torch.ones_like(logprobs), batch.action_mask)


def untrained(policy: Policy, optimizer: torch.optim.Optimizer, config: PPOConfig) -> list[str]:
    """After an optimiser step: each parameter that should have been trained by it and was not, and why.

    Meant to be trained are all adapters, or without adapters the whole model, and the critic where there is one.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    wrong = []
    for name, parameter in meant_to_train(policy, config).items():
        if not parameter.requires_grad:
            wrong.append(f"{name}: it is frozen")
        elif id(stepped(optimizer, parameter)) not in held:
            wrong.append(f"{name}: the optimiser does not hold it")
        elif parameter.grad is None:
            wrong.append(f"{name}: it has no gradient, the loss does not depend on it")
        elif not bool(whole(parameter.grad).isfinite().all()):
            wrong.append(f"{name}: its gradient is not finite")
        elif not optimizer.state.get(stepped(optimizer, parameter)):
            wrong.append(f"{name}: the optimiser has no state of it")
    return wrong


def zero_gradients(policy: Policy, config: PPOConfig) -> frozenset[str]:
    """The parameters with a gradient of zeros only; experts that no token was sent to are left out."""
    experts = tuple(name for name, module in policy.model.named_modules() if isinstance(module, nn.ModuleList))
    experts = tuple(f"model.{name}." for name in experts if name.endswith("experts"))
    return frozenset(
        name
        for name, parameter in meant_to_train(policy, config).items()
        if parameter.grad is not None and not bool(whole(parameter.grad).any()) and not name.startswith(experts)
    )


def meant_to_train(policy: Policy, config: PPOConfig) -> dict[str, nn.Parameter]:
    """By name, whether or not they say that they require a gradient."""
    model = policy.model
    named = adapter_parameters(model) if has_adapter(model) else dict(model.named_parameters())
    meant = {f"model.{name}": parameter for name, parameter in named.items()}
    if config.has_critic and config.value_coef > 0:
        meant |= {f"value_head.{name}": parameter for name, parameter in policy.value_head.named_parameters()}
    return meant


def delicate_parts(model: Any) -> list[str]:
    """What of the model kernels are known to leave out or to compute differently."""
    config = model.config.get_text_config()
    has_sinks = any(name.split(".")[-1] in SINKS for name, _ in model.named_parameters())
    has_experts = any((getattr(config, name, None) or 0) > 1 for name in EXPERTS)
    return ["attention sinks"] * has_sinks + ["experts"] * has_experts


def trainer_attention(policy: Policy) -> str:
    """The kernel that the trainer's passes go through."""
    chosen = getattr(policy.model.config, "_attn_implementation", None) or "its own"
    return f"packed ({chosen})" if policy.packs else str(chosen)


def _listed(wrong: Sequence[str]) -> str:
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return f"{len(wrong)} parameters are not trained: {'; '.join(wrong[:SHOWN])}{more}"
