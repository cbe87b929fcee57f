"""PPO with a KL penalty: one update, on one page. Symbols are those of docs/notation.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from statistics import fmean

import torch
from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.phases import Phases
from agentrl.policy.policy import Policy
from agentrl.policy.ranks import Ranks
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.advantage import explained_variance
from agentrl.ppo.batch import TrajectoryBatch, deal, fresh_enough, make_batch
from agentrl.ppo.experience import Experience, describe, evaluate_pieces, make_experience
from agentrl.ppo.groups import group_metrics, informative_rows, shared_state_fraction
from agentrl.ppo.kl import KLController, kl_estimate
from agentrl.ppo.loss import token_weights
from agentrl.ppo.microbatches import microbatches
from agentrl.ppo.objective import loss_terms
from agentrl.ppo.optimizer import load_state_tensors, make_optimizer, state_tensors
from agentrl.ppo.schedule import learning_rate_factor, set_learning_rates
from agentrl.types import Trajectory

Keep = Callable[[Sequence[Trajectory], Experience], None]
"""Takes the trajectories of an update, and the experience that has a row for each."""
LARGEST = ("grad_norm", "ratio_maxdev")  # metrics that are the largest, not the mean, over an update's optimiser steps


class PPOTrainer:
    """Updates a policy from trajectories.

    Args:
        policy: changed in place.
        reference: of the KL penalty; never changed.
        config: the `ppo:` section.
        seed: of the minibatches' order, which depends on it and the policy's version alone.
        ranks: the processes that share the passes; each holds the whole batch.
        phases: is told which part of an update is being worked on.
        keep: is shown what an update learns from, before it changes anything.
    """

    def __init__(
        self,
        policy: Policy,
        reference: ReferencePolicy,
        config: PPOConfig,
        *,
        seed: int = 0,
        ranks: Ranks | None = None,
        phases: Phases | None = None,
        keep: Keep = lambda *_: None,
    ) -> None:
        self.seed, self.keep = seed, keep
        self.phases = phases or Phases()
        self.policy = policy
        self.reference = reference
        self.config = config
        self.ranks = ranks or Ranks()
        self.kl = KLController(config.kl)
        named = dict(policy.named_parameters())
        self._named = {name: each for name, each in named.items() if config.has_critic or name.startswith("model.")}
        self.optimizer = make_optimizer(self._named, config)

    def update(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """One PPO update; returns its metrics (docs/metrics.md says what each means).

        Trajectories that older weights sampled than `max_staleness` allows are left out and counted; so are, without
        a critic, those of groups that have no advantage. An optimiser step whose loss or gradient is not finite is
        not taken, and counted.

        Raises:
            ValueError: a trajectory breaks an invariant, or there is none that is fresh enough.
        """
        config = self.config
        version = self.policy.version
        # 1. What there is to learn from.
        learned, batch, metrics = self._select(trajectories)
        metrics["learning_rate"] = set_learning_rates(self.optimizer, learning_rate_factor(version, config))
        if not len(batch):
            self.policy.version += 1
            return metrics | {"optimizer_steps": 0.0, "skipped_optimizer_steps": 0.0}

        # 2. What the policy, the critic and the reference said before the update, in the pieces of the first pass:
        #    equal shapes give equal arithmetic, so the first ratio is exactly 1.
        generator = torch.Generator().manual_seed(self.seed + version)
        passes = [self._minibatches(batch, generator) for _ in range(config.epochs)]
        experience = self._experience(batch, list(chain(*passes[0])), gae_lambda=config.gae_lambda)
        metrics |= describe(experience, config) | {"kl_coef": self.kl.coef}
        self.keep(learned, experience)

        # 3. Several epochs over shuffled minibatches.
        seen: list[dict[str, float]] = []
        optimizer_steps = skipped = 0
        for minibatch in chain(*passes):
            if not (pieces := _of_trusted(minibatch, experience)):
                continue
            with self.phases("backward"):
                found = self._backward(experience, pieces)
            if not all(map(math.isfinite, found.values())):
                skipped += 1  # weights and optimiser stay as they were
                continue
            seen.append(found)
            if config.guards.max_update_kl is not None and found["approx_kl"] > config.guards.max_update_kl:
                metrics["abandoned_minibatches"] = 1.0  # the policy has moved far enough for this batch
                break
            with self.phases("optimizer"):
                self.optimizer.step()
            optimizer_steps += 1
        self.policy.version += 1

        # 4. Steer beta, report.
        self.kl.update(metrics["kl_per_trajectory"], len(batch))
        metrics |= _summary(seen, is_recomputed=config.old_logprobs == "recomputed" and not skipped)
        return metrics | {"optimizer_steps": float(optimizer_steps), "skipped_optimizer_steps": float(skipped)}

    def warm_up_critic(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Train the value head alone, `critic_warmup_steps` steps on one batch of the frozen policy's rollouts.

        No trunk moves, not even a critic's own, so the hidden states are computed once. The targets are Monte Carlo
        returns (lambda = 1): with the zero values of a fresh head, a smaller lambda would teach early tokens that
        nothing comes (VC-PPO, arXiv:2503.01491).
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

    @torch.no_grad()
    def kl_per_trajectory(self, trajectories: Sequence[Trajectory]) -> float:
        """KL(policy || reference) of an episode, in nats: mean of the k1 sums over trajectories of the present weights.

        The engine's log-probabilities are the policy's, so that this takes one pass, of the reference.
        """
        batch = make_batch(trajectories, pad_id=self.policy.chat.stop_id).to(self.policy.device)
        ref = torch.zeros_like(batch.engine_logprobs)
        for piece in self.ranks.share(self._pieces(batch)):
            rows = batch.rows(piece)
            ref[piece, : rows.token_ids.shape[1]] = self.reference.logprobs(rows.token_ids, rows.action_mask).to(ref)
        kl = kl_estimate(batch.engine_logprobs, self.ranks.sum(ref), "k1")
        return float(torch.where(batch.action_mask, kl, 0.0).sum(-1).mean())

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's state by parameter name, for a checkpoint."""
        return state_tensors(self.optimizer, self._named)

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`.

        Raises:
            CheckpointError: they are another policy's.
        """
        load_state_tensors(self.optimizer, self._named, tensors)

    def _select(self, trajectories: Sequence[Trajectory]) -> tuple[list[Trajectory], TrajectoryBatch, dict[str, float]]:
        """What is learned from, the same as a batch, and what is left out of it.

        Raises:
            ValueError: see `update`.
        """
        config, version = self.config, self.policy.version
        fresh = fresh_enough(trajectories, policy_version=version, max_staleness=config.max_staleness)
        if trajectories and not fresh:
            allowed = f"ppo.max_staleness is {config.max_staleness}, the policy's version {version}"
            raise ValueError(f"all {len(trajectories)} trajectories are of older weights than allowed: {allowed}")
        batch = make_batch(fresh, pad_id=self.policy.chat.stop_id).to(self.policy.device)
        metrics = {"reward_train": float(batch.rewards.mean()), "stale_trajectories": len(trajectories) - len(fresh)}
        metrics |= group_metrics(fresh)
        if config.advantage == "gigpo":
            metrics["shared_state_fraction"] = shared_state_fraction(batch)
        if not config.has_critic:
            kept = informative_rows(batch, config)
            metrics["trajectories_without_signal"] = len(batch) - len(kept)
            fresh, batch = [fresh[row] for row in kept.tolist()], batch.rows(kept)
        return fresh, batch, {name: float(value) for name, value in metrics.items()}

    @torch.no_grad()
    def _experience(self, batch: TrajectoryBatch, pieces: list[Tensor], *, gae_lambda: float) -> Experience:
        """Log-probabilities, values, shaped rewards and advantages under the weights before the update."""
        old, ref, values = evaluate_pieces(
            self.policy, self.reference, batch, pieces, self.config, self.ranks, self.phases
        )
        in_reward = self.kl.coef if self.config.kl.placement == "reward" else 0.0
        return make_experience(batch, old, ref, values, self.config, kl_coef=in_reward, gae_lambda=gae_lambda)

    def _minibatches(self, batch: TrajectoryBatch, generator: torch.Generator) -> list[list[Tensor]]:
        """Groups dealt at random to `minibatches` hands, each hand cut into pieces that fit into memory.

        Dealt before they are cut: the size of a piece changes no minibatch, so it changes no result.
        """
        hands = deal(batch, self.config.minibatches, generator)
        return [[hand[piece] for piece in self._pieces(batch.rows(hand))] for hand in hands]

    def _pieces(self, batch: TrajectoryBatch) -> list[Tensor]:
        """Row indices of the pieces that a batch is cut into: none larger than memory allows, one for each rank."""
        return microbatches(batch, self.config.microbatch_tokens, packs=self.policy.packs, parts=self.ranks.count)

    def _backward(self, experience: Experience, minibatch: list[Tensor]) -> dict[str, float]:
        """The clipped gradient of a minibatch's loss, its pieces' gradients added up; returns what was seen on the way.

        What is not finite is returned as it is: all ranks see it, and no step must be taken.
        """
        config, parameters, rows = self.config, list(self._named.values()), torch.cat(minibatch)
        mask = experience.batch.action_mask
        weights, shares = torch.zeros_like(experience.old_logprobs), torch.zeros_like(experience.old_logprobs)
        weights[rows] = token_weights(mask[rows], config.aggregation, constant=config.aggregation_constant).to(weights)
        # Metrics are token means whatever the loss is: a sum over a trajectory would trip every stop rule.
        shares[rows] = token_weights(mask[rows], "token_mean").to(shares)
        self.optimizer.zero_grad(set_to_none=True)
        names = ["loss", "policy_loss", "entropy", "approx_kl", "clip_fraction"]
        names += ["value_loss"] * config.has_critic + ["kl_loss"] * (config.kl.placement == "loss")
        sums, ratio_maxdev = torch.zeros(len(names), dtype=torch.float64), 0.0
        for piece in self.ranks.share(minibatch):
            part = experience.rows(piece)
            width = part.batch.token_ids.shape[1]
            terms = self._loss_terms(part)
            torch.autograd.backward((weights[piece, :width] * terms["loss"]).sum())
            share = shares[piece, :width]
            sums += torch.tensor([float((share * terms[name].detach()).sum()) for name in names])
            if len(piece):
                ratio_maxdev = max(ratio_maxdev, float(terms["ratio_deviation"].max()))
        seen = dict(zip(names, self.ranks.sum(sums).tolist(), strict=True))
        self.ranks.sum_gradients(parameters)
        seen["grad_norm"] = self.ranks.clip_gradients(parameters, config.max_grad_norm)
        return seen | {"ratio_maxdev": self.ranks.max(ratio_maxdev)}

    def _loss_terms(self, part: Experience) -> dict[str, Tensor]:
        """Per-token loss, and the terms that it is made of, [B, T] under the current weights."""
        config = self.config
        now = self.policy.evaluate(
            part.batch.token_ids,
            part.batch.action_mask,
            with_entropy_gradient=config.entropy_coef > 0,
            with_values=config.has_critic,
        )
        return loss_terms(part, now, config, kl_coef=self.kl.coef)


def _of_trusted(minibatch: list[Tensor], experience: Experience) -> list[Tensor]:
    """The minibatch's pieces without the trajectories that the mismatch filters dropped."""
    is_trusted = experience.is_trusted.cpu()
    pieces = (piece[is_trusted[piece]] for piece in minibatch)
    return [piece for piece in pieces if len(piece)]


def _summary(seen: list[dict[str, float]], *, is_recomputed: bool) -> dict[str, float]:
    """The minibatches' figures as the step's.

    Args:
        is_recomputed: the first one's ratio compares two passes of the trainer over the same weights.
    """
    metrics = {}
    if seen and is_recomputed:
        metrics = {"ratio_recompute_maxdev": seen[0]["ratio_maxdev"], "first_clip_fraction": seen[0]["clip_fraction"]}
    for name in seen[0] if seen else ():
        metrics[name] = (max if name in LARGEST else fmean)(row[name] for row in seen)
    return metrics
