"""PPO with a KL penalty: one update, on one page. Symbols are those of docs/notation.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

import torch
from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.policy.policy import Policy
from agentrl.policy.ranks import Ranks
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.advantage import explained_variance, gae, token_rewards, whiten
from agentrl.ppo.batch import TrajectoryBatch, fresh_enough, make_batch
from agentrl.ppo.kl import KLController, kl_estimate
from agentrl.ppo.loss import mismatch_weights, policy_loss, probability_ratio, token_weights, value_loss
from agentrl.ppo.microbatches import microbatches
from agentrl.ppo.optimizer import load_state_tensors, make_optimizer, state_tensors
from agentrl.types import Trajectory

LARGEST = ("grad_norm", "ratio_maxdev")  # metrics that are the largest, not the mean, over an update's optimiser steps


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
        ranks: the processes that share the passes of an update; each is given all trajectories.
    """

    def __init__(
        self,
        policy: Policy,
        reference: ReferencePolicy,
        config: PPOConfig,
        *,
        seed: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self.seed = seed
        self.ranks = ranks or Ranks()
        self.policy = policy
        self.reference = reference
        self.config = config
        self.kl = KLController(config.kl)
        self._named = dict(policy.named_parameters())
        self.optimizer = make_optimizer(self._named, config)

    def update(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """One PPO update; returns its metrics (docs/metrics.md says what each means).

        Trajectories that older weights sampled than `max_staleness` allows are left out and counted.

        Raises:
            ValueError: a trajectory breaks an invariant, or there is none that is fresh enough.
            FloatingPointError: a loss or gradient is not finite; the weights are as before that optimiser step.
        """
        config = self.config
        # 1. What the policy, the critic and the reference said before the update, in the pieces of the first pass:
        #    equal shapes give equal arithmetic, so the first ratio is exactly 1.
        version = self.policy.version
        fresh = fresh_enough(trajectories, policy_version=version, max_staleness=config.max_staleness)
        if trajectories and not fresh:
            allowed = f"ppo.max_staleness is {config.max_staleness}, the policy's version {version}"
            raise ValueError(f"all {len(trajectories)} trajectories are of older weights than allowed: {allowed}")
        batch = make_batch(fresh, pad_id=self.policy.chat.stop_id).to(self.policy.device)
        generator = torch.Generator().manual_seed(self.seed + version)
        passes = [self._minibatches(batch, generator) for _ in range(config.epochs)]
        experience = self._experience(batch, list(chain(*passes[0])), gae_lambda=config.gae_lambda)
        metrics = self._describe(experience) | {"stale_trajectories": float(len(trajectories) - len(fresh))}

        # 2. Several epochs over shuffled minibatches.
        seen: list[dict[str, float]] = []
        optimizer_steps = 0
        for minibatch in chain(*passes):
            seen.append(self._backward(experience, minibatch))
            if seen[-1]["approx_kl"] > config.guards.max_update_kl:
                metrics["abandoned_minibatches"] = 1.0  # the policy has moved far enough for this batch
                break
            self.optimizer.step()
            optimizer_steps += 1
        self.policy.version += 1

        # 3. Steer beta, report.
        self.kl.update(metrics["kl_per_trajectory"], len(batch))
        metrics["ratio_recompute_maxdev"] = seen[0]["ratio_maxdev"]
        for name in seen[0]:
            metrics[name] = (max if name in LARGEST else fmean)(row[name] for row in seen)
        return metrics | {"optimizer_steps": float(optimizer_steps)}

    def warm_up_critic(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Train the value head alone, `critic_warmup_steps` steps on one batch of the frozen policy's rollouts.

        No trunk moves, not even a critic's own, so the hidden states are computed once. The targets are Monte Carlo returns
        (lambda = 1): with the zero values of a fresh head, a smaller lambda would teach early tokens that nothing
        comes (VC-PPO, arXiv:2503.01491).
        """
        head = self.policy.value_head
        batch = make_batch(trajectories, pad_id=self.policy.chat.stop_id).to(self.policy.device)
        pieces = self._pieces(batch)
        experience = self._experience(batch, pieces, gae_lambda=1.0)
        parts = [experience.rows(piece) for piece in pieces]
        with torch.no_grad():
            features = torch.cat(
                [self.policy.value_features(part.batch.token_ids, part.batch.action_mask) for part in parts]
            )
        targets = torch.cat([part.returns[part.batch.action_mask] for part in parts])
        value_head = {name: parameter for name, parameter in self._named.items() if name.startswith("value_head.")}
        optimizer = make_optimizer(value_head, self.config)
        for _ in range(self.config.critic_warmup_steps):
            optimizer.zero_grad()
            (0.5 * (head(features) - targets).square().mean()).backward()
            optimizer.step()
        with torch.no_grad():
            everything = torch.ones_like(targets, dtype=torch.bool)
            return {"explained_variance": explained_variance(head(features), targets, everything)}

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's state by parameter name, for a checkpoint."""
        return state_tensors(self.optimizer, self._named)

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`.

        Raises:
            CheckpointError: they are another policy's.
        """
        load_state_tensors(self.optimizer, self._named, tensors)

    @torch.no_grad()
    def _experience(self, batch: TrajectoryBatch, pieces: list[Tensor], *, gae_lambda: float) -> Experience:
        """Log-probabilities, values, shaped rewards and advantages under the weights before the update."""
        config = self.config
        old, ref, values = (torch.zeros_like(batch.engine_logprobs) for _ in range(3))
        for piece in self.ranks.share(pieces):
            rows = batch.rows(piece)
            width = rows.token_ids.shape[1]
            output = self.policy.evaluate(rows.token_ids, rows.action_mask)
            old[piece, :width], values[piece, :width] = output.logprobs, output.values
            ref[piece, :width] = self.reference.logprobs(rows.token_ids, rows.action_mask)
        old, ref, values = (self.ranks.sum(part) for part in (old, ref, values))
        mask = batch.action_mask
        in_reward = self.kl.coef if config.kl.placement == "reward" else 0.0
        rewards = token_rewards(batch.rewards, kl_estimate(old, ref, "k1"), mask, kl_coef=in_reward)  # r_t
        advantages, returns = gae(rewards, values, mask, gamma=config.gamma, gae_lambda=gae_lambda)  # A_t, G_t
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
        weights = mismatch_weights(old, batch.engine_logprobs, cap=config.mismatch_cap)
        return Experience(batch, old, ref, values, advantages, returns, torch.where(mask, weights, 0.0))

    def _minibatches(self, batch: TrajectoryBatch, generator: torch.Generator) -> list[list[Tensor]]:
        """Rows dealt at random to `minibatches` equal hands, each hand cut into pieces that fit into memory.

        Dealt before they are cut: the size of a piece changes no minibatch, so it changes no result.
        """
        order = torch.randperm(len(batch), generator=generator)
        hands = order.tensor_split(min(self.config.minibatches, len(batch)))
        return [[hand[piece] for piece in self._pieces(batch.rows(hand))] for hand in hands]

    def _pieces(self, batch: TrajectoryBatch) -> list[Tensor]:
        """Row indices of the pieces that a batch is cut into: none larger than memory allows, one for each rank."""
        return microbatches(batch, self.config.microbatch_tokens, packs=self.policy.packs, parts=self.ranks.count)

    def _backward(self, experience: Experience, minibatch: list[Tensor]) -> dict[str, float]:
        """The clipped gradient of a minibatch's loss, its pieces' gradients added up; returns what was seen on the way.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        config = self.config
        rows = torch.cat(minibatch)
        mask_BT = experience.batch.action_mask[rows]
        weights, shares = (torch.zeros_like(experience.old_logprobs) for _ in range(2))
        weights[rows] = token_weights(mask_BT, config.aggregation)
        # Metrics are token means whatever the loss is: a sum over a trajectory would trip every stop rule.
        shares[rows] = token_weights(mask_BT, "token_mean")
        self.optimizer.zero_grad(set_to_none=True)
        ratio_maxdev, sums = 0.0, dict.fromkeys(self._term_names, 0.0)
        for piece in self.ranks.share(minibatch):
            part, weight, share = experience.rows(piece), weights[piece], shares[piece]
            width = part.batch.token_ids.shape[1]
            terms = self._loss_terms(part)
            torch.autograd.backward((weight[:, :width] * terms["loss"]).sum())
            ratio_maxdev = max([ratio_maxdev, *terms["ratio_deviation"].flatten().tolist()])
            for name in sums:
                sums[name] += float((share[:, :width] * terms[name].detach()).sum())
        seen = {"grad_norm": 0.0, "ratio_maxdev": self.ranks.max(ratio_maxdev)}
        summed = self.ranks.sum(torch.tensor([*sums.values()], dtype=torch.float64))
        seen |= dict(zip(sums, summed.tolist(), strict=True))
        self.ranks.sum_gradients(self._named.values())
        seen["grad_norm"] = self.ranks.clip_gradients(self._named.values(), config.max_grad_norm)
        if not all(map(math.isfinite, seen.values())):
            raise FloatingPointError(f"not finite, so the optimiser step was not taken: {seen}")
        return seen

    @property
    def _term_names(self) -> tuple[str, ...]:
        """Terms of the loss whose token means are metrics."""
        names = ("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
        return (*names, "kl_loss") if self.config.kl.placement == "loss" else names

    def _loss_terms(self, part: Experience) -> dict[str, Tensor]:
        """Per-token loss, and the terms that it is made of, [B, T] under the current weights."""
        config, mask = self.config, part.batch.action_mask
        now = self.policy.evaluate(part.batch.token_ids, mask, with_entropy_gradient=config.entropy_coef > 0)
        ratio = probability_ratio(now.logprobs, part.old_logprobs)
        surrogate = part.weights * policy_loss(
            ratio,
            part.advantages,
            clip_low=config.clip_range_low,
            clip_high=config.clip_range_high,
            dual_clip=config.dual_clip,
        )
        critic = value_loss(now.values, part.values, part.returns, clip=config.value_clip)
        terms = {
            "loss": surrogate + config.value_coef * critic - config.entropy_coef * now.entropy,
            "policy_loss": surrogate,
            "value_loss": critic,
            "entropy": now.entropy,
            "approx_kl": kl_estimate(now.logprobs, part.old_logprobs, "k2"),
            "clip_fraction": ((ratio < 1 - config.clip_range_low) | (ratio > 1 + config.clip_range_high)).float(),
            "ratio_deviation": torch.where(mask, (ratio.detach() - 1).abs(), 0.0),
        }
        if config.kl.placement == "loss":
            terms["kl_loss"] = kl_estimate(now.logprobs, part.ref_logprobs, config.kl.estimator)
            terms["loss"] = terms["loss"] + self.kl.coef * terms["kl_loss"]
        return terms

    def _describe(self, experience: Experience) -> dict[str, float]:
        """What can be said of a batch before it changes the policy."""
        batch, mask = experience.batch, experience.batch.action_mask
        old, ref = experience.old_logprobs[mask], experience.ref_logprobs[mask]
        engine = batch.engine_logprobs[mask]
        apart = (old - engine).abs()
        k1 = torch.where(mask, experience.old_logprobs - experience.ref_logprobs, 0.0)
        weights = experience.weights[mask]
        return {
            "reward_train": float(batch.rewards.mean()),
            "kl_per_token": float(kl_estimate(old, ref, "k3").mean()),
            "kl_per_trajectory": float(k1.sum(-1).mean()),
            "kl_coef": self.kl.coef,
            "explained_variance": explained_variance(experience.values, experience.returns, mask),
            "value_mean": float(experience.values[mask].mean()),
            "mismatch_abs_logprob_mean": float(apart.mean()),
            "mismatch_abs_logprob_p99": float(apart.kthvalue(math.ceil(0.99 * len(apart))).values),
            "mismatch_abs_logprob_max": float(apart.max()),
            "mismatch_abs_prob_mean": float((old.exp() - engine.exp()).abs().mean()),
            "mismatch_weight_mean": float(weights.mean()),
            "mismatch_ess": float(weights.sum().square() / (len(weights) * weights.square().sum())),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }
