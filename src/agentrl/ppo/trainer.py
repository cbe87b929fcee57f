"""PPO with a KL penalty: one update, on one page. Symbols are those of docs/notation.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.policy.policy import Policy
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.advantage import explained_variance, gae, token_rewards, whiten
from agentrl.ppo.batch import TrajectoryBatch, make_batch, microbatches
from agentrl.ppo.kl import KLController, kl_estimate
from agentrl.ppo.loss import mismatch_weights, policy_loss, probability_ratio, token_weights, value_loss
from agentrl.types import Trajectory


@dataclass(frozen=True)
class Experience:
    """A batch and everything about it that stays fixed during the update; all [B, T], zero off the mask."""

    batch: TrajectoryBatch
    old_logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    """Mismatch weights, engine against trainer."""

    def rows(self, index: Tensor) -> Experience:
        batch = self.batch.rows(index)
        width = batch.token_ids.shape[1]
        parts = (self.old_logprobs, self.ref_logprobs, self.values, self.advantages, self.returns, self.weights)
        return Experience(batch, *(part[index][:, :width] for part in parts))


class PPOTrainer:
    """Updates a policy from trajectories.

    Args:
        policy: changed in place.
        reference: of the KL penalty; never changed.
        config: the `ppo:` section.
        seed: of the minibatches' order, which depends on it and the policy's version alone.
    """

    def __init__(self, policy: Policy, reference: ReferencePolicy, config: PPOConfig, *, seed: int = 0) -> None:
        self.seed = seed
        self.policy = policy
        self.reference = reference
        self.config = config
        self.kl = KLController(config.kl)
        named = dict(policy.named_parameters())
        value_rate = config.value_learning_rate or config.learning_rate
        groups = [[name for name in named if name.startswith(prefix)] for prefix in ("model.", "value_head.")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [named[name] for name in names], "lr": rate}
                for names, rate in zip(groups, (config.learning_rate, value_rate), strict=True)
            ],
            betas=config.betas,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
        )
        self._named = named

    def update(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """One PPO update; returns its metrics (docs/metrics.md says what each means).

        Raises:
            ValueError: a trajectory breaks an invariant, or there is none.
            FloatingPointError: a loss or gradient is not finite; the weights are as before that optimiser step.
        """
        config = self.config
        # 1. What the policy, the critic and the reference said before the update, in the pieces used below:
        #    equal shapes give equal arithmetic, so the first ratio is exactly 1.
        batch = make_batch(trajectories, pad_id=self.policy.chat.stop_id).to(self.policy.device)
        pieces = list(microbatches(batch, config.microbatch_tokens))
        experience = self._experience(batch, pieces)
        metrics = self._describe(experience)

        # 2. Several epochs over shuffled minibatches.
        generator = torch.Generator().manual_seed(self.seed + self.policy.version)
        sums: dict[str, float] = {}
        steps = 0
        for _ in range(config.epochs):
            for minibatch in self._minibatches(pieces, generator):
                parts = self._step(experience, minibatch)
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + value
                steps += 1
                if steps == 1:
                    metrics["ratio_recompute_maxdev"] = parts["ratio_maxdev"]
                if parts["approx_kl"] > config.guards.max_update_kl:
                    metrics["abandoned_minibatches"] = 1.0  # the policy has moved far enough for this batch
                    break
            else:
                continue
            break
        self.policy.version += 1

        # 3. Steer beta, report.
        self.kl.update(metrics["kl_per_trajectory"], len(batch))
        metrics |= {name: value / steps for name, value in sums.items()}
        return metrics | {"optimizer_steps": float(steps)}

    def warm_up_critic(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Train the value head alone, `critic_warmup_steps` steps on one batch of the frozen policy's rollouts.

        The trunk does not move, so its hidden states are computed once.
        """
        config, head = self.config, self.policy.value_head
        batch = make_batch(trajectories, pad_id=self.policy.chat.stop_id).to(self.policy.device)
        pieces = list(microbatches(batch, config.microbatch_tokens))
        experience = self._experience(batch, pieces)
        parts = [experience.rows(piece) for piece in pieces]
        with torch.no_grad():
            features = torch.cat([self._hidden_before_actions(part.batch) for part in parts])
        targets = torch.cat([part.returns[part.batch.action_mask] for part in parts])
        optimizer = torch.optim.AdamW(
            head.parameters(), lr=config.value_learning_rate or config.learning_rate, eps=config.adam_eps
        )
        for _ in range(config.critic_warmup_steps):
            optimizer.zero_grad()
            (0.5 * (head(features) - targets).square().mean()).backward()
            optimizer.step()
        with torch.no_grad():
            everything = torch.ones_like(targets, dtype=torch.bool)
            return {"explained_variance": explained_variance(head(features), targets, everything)}

    def _hidden_before_actions(self, rows: TrajectoryBatch) -> Tensor:
        """[actions, hidden size] what the value head reads."""
        return self.policy.hidden(rows.token_ids, rows.attention_mask)[:, :-1][rows.action_mask[:, 1:]]

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's state by parameter name, for a checkpoint."""
        return {
            f"{name}/{key}": value.clone()
            for name, parameter in self._named.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`."""
        for name, parameter in self._named.items():
            state = {key: tensors[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}/{key}" in tensors}
            if state:
                self.optimizer.state[parameter] = state

    @torch.no_grad()
    def _experience(self, batch: TrajectoryBatch, pieces: list[Tensor]) -> Experience:
        """Log-probabilities, values, shaped rewards and advantages under the weights before the update."""
        config = self.config
        old, ref, values = (torch.zeros_like(batch.engine_logprobs) for _ in range(3))
        for piece in pieces:
            rows = batch.rows(piece)
            width = rows.token_ids.shape[1]
            output = self.policy.evaluate(rows.token_ids, rows.attention_mask, rows.action_mask)
            old[piece, :width], values[piece, :width] = output.logprobs, output.values
            ref[piece, :width] = self.reference.logprobs(rows.token_ids, rows.attention_mask, rows.action_mask)
        mask = batch.action_mask
        in_reward = self.kl.coef if config.kl.placement == "reward" else 0.0
        rewards = token_rewards(batch.rewards, kl_estimate(old, ref, "k1"), mask, kl_coef=in_reward)  # r_t
        advantages, returns = gae(rewards, values, mask, gamma=config.gamma, gae_lambda=config.gae_lambda)  # A_t, G_t
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
        weights = mismatch_weights(old, batch.engine_logprobs, cap=config.mismatch_cap)
        return Experience(batch, old, ref, values, advantages, returns, torch.where(mask, weights, 0.0))

    def _minibatches(self, pieces: list[Tensor], generator: torch.Generator) -> list[list[Tensor]]:
        """The pieces dealt to `minibatches` hands of about equally many rows, in random order."""
        order = torch.randperm(len(pieces), generator=generator).tolist()
        hands: list[list[Tensor]] = [[] for _ in range(min(self.config.minibatches, len(pieces)))]
        for i in order:
            min(hands, key=lambda hand: sum(map(len, hand))).append(pieces[i])
        return hands

    def _step(self, experience: Experience, minibatch: list[Tensor]) -> dict[str, float]:
        """One optimiser step on a minibatch, its pieces' gradients added up."""
        config = self.config
        everything = torch.cat(minibatch)
        weights_BT = token_weights(experience.batch.action_mask[everything], config.aggregation)
        offsets = torch.tensor([len(piece) for piece in minibatch]).cumsum(0).tolist()
        self.optimizer.zero_grad(set_to_none=True)
        sums = dict.fromkeys(
            ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "ratio_maxdev", "kl_loss"), 0.0
        )
        for piece, end in zip(minibatch, offsets, strict=True):
            part = experience.rows(piece)
            rows, mask = part.batch, part.batch.action_mask
            w = weights_BT[end - len(piece) : end, : mask.shape[1]].to(self.policy.device)
            now = self.policy.evaluate(rows.token_ids, rows.attention_mask, mask)
            ratio = probability_ratio(now.logprobs, part.old_logprobs)
            surrogate = part.weights * policy_loss(
                ratio,
                part.advantages,
                clip_low=config.clip_range_low,
                clip_high=config.clip_range_high,
                dual_clip=config.dual_clip,
            )
            critic = value_loss(now.values, part.values, part.returns, clip=config.value_clip)
            loss = surrogate + config.value_coef * critic - config.entropy_coef * now.entropy
            if config.kl.placement == "loss":
                penalty = kl_estimate(now.logprobs, part.ref_logprobs, config.kl.estimator)
                loss = loss + self.kl.coef * penalty
                sums["kl_loss"] += float((w * penalty.detach()).sum())
            (w * loss).sum().backward()
            with torch.no_grad():
                is_clipped = (ratio < 1 - config.clip_range_low) | (ratio > 1 + config.clip_range_high)
                sums["policy_loss"] += float((w * surrogate).sum())
                sums["value_loss"] += float((w * critic).sum())
                sums["entropy"] += float((w * now.entropy).sum())
                sums["approx_kl"] += float((w * 0.5 * (now.logprobs - part.old_logprobs).square()).sum())
                sums["clip_fraction"] += float((w * is_clipped).sum())
                sums["ratio_maxdev"] = max(sums["ratio_maxdev"], float(((ratio - 1).abs() * mask).max()))
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self._named.values(), config.max_grad_norm))
        if not math.isfinite(grad_norm) or not all(map(math.isfinite, sums.values())):
            raise FloatingPointError(f"gradient norm {grad_norm}, {sums}: the optimiser step was not taken")
        self.optimizer.step()
        return sums | {"grad_norm": grad_norm}

    def _describe(self, experience: Experience) -> dict[str, float]:
        """What can be said of a batch before it changes the policy."""
        batch, mask = experience.batch, experience.batch.action_mask
        old, ref = experience.old_logprobs[mask], experience.ref_logprobs[mask]
        engine = batch.engine_logprobs[mask]
        k1 = torch.where(mask, experience.old_logprobs - experience.ref_logprobs, 0.0)
        weights = experience.weights[mask]
        return {
            "reward_train": float(batch.rewards.mean()),
            "kl_per_token": float(kl_estimate(old, ref, "k3").mean()),
            "kl_per_trajectory": float(k1.sum(-1).mean()),
            "kl_coef": self.kl.coef,
            "explained_variance": explained_variance(experience.values, experience.returns, mask),
            "value_mean": float(experience.values[mask].mean()),
            "mismatch_abs_logprob_mean": float((old - engine).abs().mean()),
            "mismatch_abs_logprob_max": float((old - engine).abs().max()),
            "mismatch_abs_prob_mean": float((old.exp() - engine.exp()).abs().mean()),
            "mismatch_weight_mean": float(weights.mean()),
            "mismatch_ess": float(weights.sum().square() / (len(weights) * weights.square().sum())),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }
