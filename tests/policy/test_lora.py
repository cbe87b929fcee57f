from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from agentrl.config import LoRAConfig, PolicyConfig, RunConfig
from agentrl.errors import BaselineError, CheckpointError
from agentrl.inference.in_process import InProcessEngine
from agentrl.policy.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_policy
from agentrl.policy.lora import adapter_tensors, save_merged, without_adapter
from agentrl.policy.policy import Policy, weights_digest
from agentrl.policy.reference import ReferencePolicy
from tests.engine_fixtures import gpt2, llama, make_tokenizer, seeded
from tests.tiny import VOCABULARY, make_trainer, sampled_trajectories, tiny_model, tiny_policy


def lora_policy(seed: int = 0, *, rank: int = 4, **options: Any) -> Policy:
    config = PolicyConfig(value_hidden_size=16, lora=LoRAConfig(rank=rank, alpha=8.0))
    return tiny_policy(seed, config=config, **options)


def moved(policy: Policy) -> Policy:
    """The policy after training that moved it visibly."""
    with torch.no_grad():
        for name, tensor in adapter_tensors(policy.model).items():
            if "lora_B" in name:
                tensor.normal_(std=0.3)
    return policy


def some_ids(rows: int = 3, length: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(1, 90, (rows, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 0] = False
    return ids, mask


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(some_ids()[0]).logits


def test_a_fresh_adapter_changes_nothing_and_kl_is_exactly_zero() -> None:
    policy, plain = lora_policy(), tiny_policy()
    assert torch.equal(logits(policy.model), logits(plain.model))
    with torch.no_grad():
        own = policy.evaluate(*some_ids()).logprobs
    assert torch.equal(ReferencePolicy.freeze(policy).logprobs(*some_ids()), own)
    metrics = make_trainer(policy).update(sampled_trajectories(policy))
    assert (metrics["kl_per_token"], metrics["kl_per_trajectory"]) == (0.0, 0.0)
    assert metrics["ratio_recompute_maxdev"] == 0.0


def test_only_the_adapter_and_the_value_head_are_trained() -> None:
    policy = lora_policy()
    names = [name for name, _ in policy.named_parameters()]
    assert names
    assert all(".lora_" in name or name.startswith("value_head.") for name in names)
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    trainer = make_trainer(policy)
    for step in range(2):  # A moves from the second step on: its gradient passes through B, which starts at zero
        trainer.update(sampled_trajectories(policy, seed=step))
    changed = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".lora_" in name}
    assert {name.rpartition("/")[0] for name in trainer.optimizer_tensors()} == set(names)


def test_the_reference_is_the_baseline_and_stays_it() -> None:
    policy, plain = lora_policy(), tiny_policy()
    reference, copy = ReferencePolicy.freeze(policy), ReferencePolicy.freeze(plain)
    assert reference.digest() == copy.digest() == weights_digest(plain.model)
    trainer = make_trainer(policy)
    for step in range(3):
        trainer.update(sampled_trajectories(policy, seed=step))
    with torch.no_grad():
        assert not torch.equal(policy.evaluate(*some_ids()).logprobs, copy.logprobs(*some_ids()))
    assert torch.equal(reference.logprobs(*some_ids()), copy.logprobs(*some_ids()))
    assert reference.digest() == copy.digest()
    assert all(p.requires_grad for name, p in policy.model.named_parameters() if ".lora_" in name)


def test_without_its_adapter_a_model_is_itself_again_even_after_an_error() -> None:
    policy = moved(lora_policy())
    with_adapter, plain = logits(policy.model), logits(tiny_policy().model)
    assert not torch.allclose(with_adapter, plain, atol=0.1)
    with without_adapter(policy.model):
        assert torch.equal(logits(policy.model), plain)
    with pytest.raises(ValueError, match="action"), without_adapter(policy.model):
        raise ValueError("in the middle of an action")
    assert torch.equal(logits(policy.model), with_adapter)


def qwen3(_: int, **options: Any) -> Any:
    return tiny_model(**options)


@pytest.mark.parametrize("make", [llama, qwen3, gpt2])
@pytest.mark.parametrize("is_tied", [False, True])
def test_merged_weights_say_the_same(make: Callable[..., Any], is_tied: bool, tmp_path: Path) -> None:
    model = seeded(make, VOCABULARY, tie_word_embeddings=is_tied)
    policy = moved(Policy(model, make_tokenizer(), PolicyConfig(lora=LoRAConfig(rank=4))))
    base = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    save_merged(policy.model, tmp_path)
    assert not any("lora" in name or "base_layer" in name for name in load_file(tmp_path / "model.safetensors"))
    whole = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(whole), logits(policy.model), atol=1e-4, rtol=0)
    assert all(torch.equal(p, base[name]) for name, p in policy.model.named_parameters())


def test_merged_weights_say_nearly_the_same_in_bfloat16(tmp_path: Path) -> None:
    policy = lora_policy(dtype=torch.bfloat16)
    with torch.no_grad():
        for name, tensor in adapter_tensors(policy.model).items():
            if "lora_B" in name:
                tensor.normal_(std=0.02)
    assert {tensor.dtype for tensor in adapter_tensors(policy.model).values()} == {torch.float32}
    save_merged(policy.model, tmp_path)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert whole.dtype == torch.bfloat16
    one, other = logits(whole).float(), logits(policy.model).float()
    assert (one - other).abs().mean() < 0.05
    assert (one.argmax(-1) == other.argmax(-1)).float().mean() > 0.9


def test_an_adapter_may_sit_on_chosen_layers_only() -> None:
    policy = tiny_policy(config=PolicyConfig(lora=LoRAConfig(target_modules=("q_proj", "v_proj"))))
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in policy.named_parameters() if ".lora_" in name}
    assert layers == {"q_proj", "v_proj"}
    with pytest.raises(BaselineError, match=r"policy\.lora.*no_such_layer"):
        tiny_policy(config=PolicyConfig(lora=LoRAConfig(target_modules=("no_such_layer",))))


def test_going_on_from_a_checkpoint_equals_not_stopping_bitwise(tmp_path: Path) -> None:
    def trained(trainer: Any, steps: range) -> Any:
        for step in steps:
            trainer.update(sampled_trajectories(trainer.policy, 6, seed=step))
        return trainer

    whole, first = trained(make_trainer(lora_policy()), range(4)), trained(make_trainer(lora_policy()), range(2))
    save_checkpoint(tmp_path / "c", first.policy, first.optimizer_tensors(), {})
    assert {path.name for path in (tmp_path / "c" / "policy").glob("adapter*")} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert not list((tmp_path / "c" / "policy").glob("model*"))  # the base weights are in the baseline
    second = make_trainer(lora_policy())
    before = {name: p.data_ptr() for name, p in second.policy.named_parameters()}
    second.load_optimizer_tensors(load_checkpoint(tmp_path / "c", second.policy)[0])
    assert {name: p.data_ptr() for name, p in second.policy.named_parameters()} == before
    second.policy.version = 2
    trained(second, range(2, 4))
    assert second.policy.digest() == whole.policy.digest()
    assert weights_digest(second.policy.value_head) == weights_digest(whole.policy.value_head)


def test_a_saved_policy_is_an_ordinary_model_with_its_adapter_beside_it(tmp_path: Path) -> None:
    policy = moved(lora_policy())
    save_policy(policy, tmp_path / "best")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "best")
    assert torch.allclose(logits(whole), logits(policy.model), atol=1e-4, rtol=0)
    other = moved(lora_policy())
    load_weights(tmp_path / "best", other)
    assert other.digest() == policy.digest()


def test_a_stored_adapter_is_one_that_peft_reads(tmp_path: Path) -> None:
    from peft import PeftModel

    policy = moved(lora_policy())
    save_policy(policy, tmp_path / "best")
    stored = PeftModel.from_pretrained(tiny_model(), tmp_path / "best" / "adapter")
    assert torch.allclose(logits(stored.eval()), logits(policy.model), atol=1e-6)
    assert all(
        name.startswith("base_model.model.") for name in load_file(tmp_path / "best/adapter/adapter_model.safetensors")
    )


def test_an_adapter_of_another_rank_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", lora_policy(), {}, {})
    with pytest.raises(CheckpointError, match="does not fit the policy"):
        load_checkpoint(tmp_path / "c", lora_policy(rank=2))


def test_loading_the_baseline_clears_the_adapter_and_other_base_weights_are_refused(tmp_path: Path) -> None:
    policy, plain = moved(lora_policy()), tiny_policy()
    save_policy(plain, tmp_path / "baseline")
    load_weights(tmp_path / "baseline", policy)
    assert torch.equal(logits(policy.model), logits(plain.model))
    save_policy(tiny_policy(seed=9), tmp_path / "other")
    with pytest.raises(CheckpointError, match="other base weights"):
        load_weights(tmp_path / "other", policy)


def test_the_engine_in_this_process_samples_with_the_adapter() -> None:
    config = RunConfig.model_validate(
        {"workflow": {"target": "t", "baseline": "b"}, "rollout": {"max_context_tokens": 128, "max_turn_tokens": 64}}
    )
    policy = moved(lora_policy())

    async def sample() -> Any:
        engine = InProcessEngine.from_config(config, policy)
        return await engine.generate([5, 6, 7, 8], session="s", seed=3, max_tokens=40)

    drawn = asyncio.run(sample())
    ids = torch.tensor([[5, 6, 7, 8, *drawn.token_ids]])
    mask = torch.arange(ids.shape[1])[None] >= 4
    with torch.no_grad():
        trainers = policy.evaluate(ids, mask).logprobs[mask]
        with without_adapter(policy.model):
            bases = policy.evaluate(ids, mask).logprobs[mask]
    engines = torch.tensor(drawn.logprobs)
    assert (engines - trainers).abs().max() < 1e-5
    assert (engines - bases).abs().max() > 0.1  # so the comparison can tell


def test_recomputed_activations_give_the_adapter_the_same_gradient() -> None:
    found = []
    for is_recomputed in (False, True):
        config = PolicyConfig(value_hidden_size=16, lora=LoRAConfig(rank=4), gradient_checkpointing=is_recomputed)
        policy = moved(tiny_policy(config=config))
        torch.manual_seed(0)
        for tensor in adapter_tensors(policy.model).values():
            tensor.normal_(std=0.2)
        policy.evaluate(*some_ids()).logprobs.sum().backward()
        found.append({name: p.grad for name, p in policy.model.named_parameters() if p.requires_grad})
    assert found[0]
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])
