from __future__ import annotations

import torch

from agentrl.policy.reference import ReferencePolicy
from tests.tiny import make_trainer, sampled_trajectories, tiny_policy


def test_the_reference_never_changes_while_the_policy_does() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, minibatches=2)
    before, policy_before = trainer.reference.digest(), policy.digest()
    assert before == policy_before
    for step in range(20):
        trainer.update(sampled_trajectories(policy, 4, seed=step))
    assert trainer.reference.digest() == before
    assert policy.digest() != policy_before


def test_no_parameter_of_the_reference_has_a_gradient_or_an_optimiser() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy)
    trainer.update(sampled_trajectories(policy))
    frozen = list(trainer.reference._frozen.model.parameters())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen)
    trained = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert trained.isdisjoint(map(id, frozen))
    assert {parameter.data_ptr() for parameter in frozen}.isdisjoint(
        parameter.data_ptr() for _, parameter in policy.named_parameters()
    )


def test_kl_is_exactly_0_before_the_first_step_and_positive_after_it() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy)
    first = trainer.update(sampled_trajectories(policy))
    assert first["kl_per_token"] == first["kl_per_trajectory"] == 0
    assert trainer.update(sampled_trajectories(policy))["kl_per_token"] > 0


def test_freezing_leaves_the_policy_trainable() -> None:
    policy = tiny_policy()
    ReferencePolicy.freeze(policy)
    assert all(parameter.requires_grad for parameter in policy.model.parameters())
    assert all(parameter.requires_grad for parameter in policy.value_head.parameters())


def test_the_reference_speaks_as_the_policy_did() -> None:
    policy = tiny_policy(temperature=0.7)
    reference = ReferencePolicy.freeze(policy)
    ids, mask = torch.randint(1, 90, (2, 9)), torch.rand(2, 9) < 0.5
    mask[:, 0], mask[:, 3] = False, True
    logprobs = reference.logprobs(ids, mask)
    assert torch.equal(logprobs, policy.evaluate(ids, mask).logprobs)
    assert not logprobs.requires_grad
