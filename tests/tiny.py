"""Policies of a few thousand weights, the trajectories that they could have sampled, and a bandit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from agentrl.config import PolicyConfig, PPOConfig
from agentrl.policy.policy import Policy
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.trainer import PPOTrainer
from agentrl.types import Trajectory
from tests.engine_fixtures import make_tokenizer

VOCABULARY = 104


def tiny_model(seed: int = 0, **config: Any) -> Any:
    """Qwen3 with two layers of width 32; weights large enough for the policy to have preferences."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "attn_implementation": "sdpa",
    }
    return Qwen3ForCausalLM(Qwen3Config(**{**shape, **config}))


def tiny_policy(
    seed: int = 0,
    *,
    temperature: float = 1.0,
    dtype: torch.dtype = torch.float32,
    config: PolicyConfig | None = None,
    **model_config: Any,
) -> Policy:
    """A policy whose critic has opinions too (a fresh one says 0 everywhere)."""
    model = tiny_model(seed, **model_config).to(dtype)
    policy = Policy(model, make_tokenizer(), config or PolicyConfig(value_hidden_size=16), temperature=temperature)
    nn.init.normal_(policy.value_head.out.weight, std=0.3)
    return policy


def make_trainer(policy: Policy, *, seed: int = 0, **config: Any) -> PPOTrainer:
    """A trainer against the policy as it is now; a learning rate large enough to see."""
    settings = {"learning_rate": 1e-3, "minibatches": 1, **config}
    return PPOTrainer(policy, ReferencePolicy.freeze(policy), PPOConfig(**settings), seed=seed)


def make_trajectory(
    pieces: Sequence[tuple[Sequence[int], bool]],
    *,
    reward: float = 0.0,
    engine_logprobs: Sequence[float] | None = None,
    name: str = "r",
    policy_version: int = 0,
) -> Trajectory:
    """From runs of tokens, each sampled by the policy (True) or not; `engine_logprobs` are those of the actions."""
    ids = [token for tokens, _ in pieces for token in tokens]
    mask = [is_action for tokens, is_action in pieces for _ in tokens]
    given = iter(engine_logprobs if engine_logprobs is not None else [-1.0] * len(ids))
    turns = [i if is_action else -1 for i, (tokens, is_action) in enumerate(pieces) for _ in tokens]
    return Trajectory(
        rollout_id=name,
        task_id="t",
        token_ids=tuple(ids),
        action_mask=tuple(mask),
        engine_logprobs=tuple(next(given) if is_action else 0.0 for is_action in mask),
        turn_ids=tuple(turns),
        policy_versions=tuple(policy_version if is_action else -1 for is_action in mask),
        score=reward,
        reward=reward,
    )


def sampled_trajectories(policy: Policy, n: int = 8, *, seed: int = 0) -> list[Trajectory]:
    """`n` trajectories of different lengths and turns; the engine's log-probabilities are the policy's."""
    draw = random.Random(seed)

    def tokens(low: int, high: int) -> list[int]:
        return [draw.randrange(1, VOCABULARY - 1) for _ in range(draw.randint(low, high))]

    trajectories = []
    for i in range(n):
        pieces = [(tokens(2, 5), False)]
        for _ in range(draw.randint(1, 3)):
            pieces += [(tokens(1, 6), True), (tokens(1, 7), False)]
        pieces = pieces if i % 3 == 0 else pieces[:-1]  # some end on tool output
        blank = make_trajectory(pieces)
        ids, mask = torch.tensor([blank.token_ids]), torch.tensor([blank.action_mask])
        with torch.no_grad():
            logprobs = policy.evaluate(ids, mask).logprobs[mask].tolist()
        options: dict[str, Any] = {"name": f"r{i}", "policy_version": policy.version}
        trajectories.append(make_trajectory(pieces, reward=float(i % 2), engine_logprobs=logprobs, **options))
    return trajectories


def gradient_of_update(make: Callable[[], PPOTrainer], trajectories: Sequence[Trajectory]) -> dict[str, Tensor]:
    """The gradient that `update` follows: with plain SGD at rate 1 it is the difference of the weights."""
    trainer = make()
    before = {name: parameter.detach().clone() for name, parameter in trainer.policy.named_parameters()}
    trainer.optimizer = torch.optim.SGD([p for _, p in trainer.policy.named_parameters()], lr=1.0)  # type: ignore[assignment]
    trainer.update(trajectories)
    return {name: before[name] - parameter.detach() for name, parameter in trainer.policy.named_parameters()}


class _Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_embeddings = VOCABULARY

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=torch.ones(*input_ids.shape, 1))


class BanditModel(nn.Module):
    """A language model that always draws one of its first few tokens, with probabilities that are its only weights."""

    def __init__(self, probabilities: Sequence[float]) -> None:
        super().__init__()
        self.base_model = _Nothing()
        self.arms = nn.Parameter(torch.tensor(probabilities).log())
        self.register_buffer("never", torch.full((VOCABULARY - len(probabilities),), -1e4))
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=1))

    def get_input_embeddings(self) -> nn.Module:
        return self.base_model

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        hidden = self.base_model(input_ids).last_hidden_state
        logits = torch.cat([self.arms, self.never])  # type: ignore[list-item]
        return SimpleNamespace(logits=logits.expand(*hidden.shape[:2], -1))


def bandit_policy(probabilities: Sequence[float]) -> Policy:
    return Policy(BanditModel(probabilities), make_tokenizer(), PolicyConfig(value_hidden_size=2))
