from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
)

from agentrl.config import PolicyConfig, RunConfig
from agentrl.errors import BaselineError, ConfigError
from agentrl.inference.in_process import InProcessEngine
from agentrl.policy.checkpoint import save_policy
from agentrl.policy.critic import ValueHead
from agentrl.policy.policy import (
    Policy,
    check_baseline,
    folder_digest,
    load_policy,
    pick_device,
    weights_digest,
)
from tests.engine_fixtures import make_tokenizer
from tests.tiny import VOCABULARY, BanditModel, make_trainer, sampled_trajectories, tiny_model, tiny_policy

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def some_tokens(rows: int = 3, length: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCABULARY, (rows, length), generator=generator)
    mask = torch.rand(rows, length, generator=generator) < 0.5
    mask[:, 0], mask[:, 2] = False, True
    return ids, mask


# What evaluate says


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_position_t_describes_token_t_given_the_tokens_before_it(temperature: float) -> None:
    policy = tiny_policy(temperature=temperature)
    ids, mask = some_tokens()
    output = policy.evaluate(ids, mask)
    logprobs = (policy.model(ids).logits / temperature).log_softmax(-1)
    expected = logprobs[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(output.logprobs[:, 1:], torch.where(mask[:, 1:], expected, 0.0), atol=1e-5, rtol=0)
    entropy = -(logprobs.exp() * logprobs).sum(-1)[:, :-1]
    torch.testing.assert_close(output.entropy[:, 1:], torch.where(mask[:, 1:], entropy, 0.0), atol=1e-5, rtol=0)
    values = policy.value_head(policy.model.base_model(ids).last_hidden_state)[:, :-1]
    torch.testing.assert_close(output.values[:, 1:], torch.where(mask[:, 1:], values, 0.0), atol=1e-5, rtol=0)


def capped_gemma() -> Any:
    return Gemma2ForCausalLM(Gemma2Config(**{**SHAPE, "head_dim": 16, "final_logit_softcapping": 0.5}))


def scaled_granite() -> Any:
    return GraniteForCausalLM(GraniteConfig(**{**SHAPE, "logits_scaling": 8.0}))


def scaled_cohere() -> Any:
    return CohereForCausalLM(CohereConfig(**{**SHAPE, "logit_scale": 0.0625}))


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64))


@pytest.mark.parametrize("make", [capped_gemma, scaled_granite, scaled_cohere, gpt2])
def test_logits_that_an_architecture_scales_or_caps_are_scaled_and_capped(make: Any) -> None:
    torch.manual_seed(0)
    policy = Policy(make(), make_tokenizer(), PolicyConfig())
    ids, mask = some_tokens()
    raw = policy.model.get_output_embeddings()(policy.model.base_model(ids).last_hidden_state)
    logits = policy.model(ids).logits
    assert make is gpt2 or not torch.allclose(raw, logits, atol=0.05)  # the head alone would be wrong
    expected = logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    found = policy.evaluate(ids, mask).logprobs[:, 1:]
    torch.testing.assert_close(found, torch.where(mask[:, 1:], expected, 0.0), atol=1e-5, rtol=0)


def test_evaluating_leaves_the_model_as_it_was() -> None:
    policy = tiny_policy()
    ids, mask = some_tokens()
    before = policy.model(ids).logits
    policy.evaluate(ids, mask)
    assert torch.equal(policy.model(ids).logits, before)
    assert before.shape == (*ids.shape, VOCABULARY)


def test_a_row_says_the_same_alone_and_beside_longer_ones() -> None:
    policy = tiny_policy()
    ids, mask = some_tokens(rows=1, length=9)
    alone = policy.evaluate(ids, mask)
    for pad in (0, 50):
        padded_ids = torch.nn.functional.pad(ids, (0, 7), value=pad)
        padded = policy.evaluate(padded_ids, torch.nn.functional.pad(mask, (0, 7)))
        for name in ("logprobs", "entropy", "values"):
            torch.testing.assert_close(getattr(padded, name)[:, :9], getattr(alone, name), atol=1e-6, rtol=0)
            assert not getattr(padded, name)[:, 9:].any()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_trainers_log_probabilities_are_the_engines(temperature: float) -> None:
    policy = tiny_policy(temperature=temperature)
    engine = InProcessEngine(
        policy.model, stop_ids=policy.chat.stop_ids, temperature=temperature, max_batch=4, max_context_tokens=100
    )

    async def sample() -> Any:
        return await engine.generate([5, 6, 7], session="a", seed=1, max_tokens=30)

    sampled = asyncio.run(sample())
    ids = torch.tensor([[5, 6, 7, *sampled.token_ids]])
    mask = torch.tensor([[False] * 3 + [True] * len(sampled.token_ids)])
    found = policy.evaluate(ids, mask).logprobs[mask]
    torch.testing.assert_close(found, torch.tensor(sampled.logprobs), atol=1e-5, rtol=0)
    assert policy.evaluate(ids, mask).logprobs.exp().max() <= 1


def test_a_fresh_critic_says_0() -> None:
    head = ValueHead(32, 16)
    assert not head(torch.randn(4, 32)).any()


def test_the_critics_gradient_stops_at_the_trunk() -> None:
    policy = tiny_policy()
    ids, mask = some_tokens()
    policy.evaluate(ids, mask).values.sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in policy.model.parameters())
    assert all(parameter.grad is not None for parameter in policy.value_head.parameters())


def test_a_bfloat16_policy_speaks_in_float32_and_keeps_its_critic_there() -> None:
    policy = tiny_policy(dtype=torch.bfloat16)
    metrics = make_trainer(policy).update(sampled_trajectories(policy))
    assert metrics["ratio_recompute_maxdev"] == 0
    output = policy.evaluate(*some_tokens())
    assert output.logprobs.dtype == output.entropy.dtype == output.values.dtype == torch.float32
    assert {parameter.dtype for parameter in policy.value_head.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.bfloat16}


def test_one_tensor_of_the_size_of_the_vocabulary_is_kept_for_the_backward_pass() -> None:
    policy = tiny_policy()
    ids, mask = some_tokens()
    size = int(mask.sum()) * VOCABULARY

    def kept(*, with_entropy_gradient: bool) -> int:
        tensors: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            tensors[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = policy.evaluate(ids, mask, with_entropy_gradient=with_entropy_gradient)
            assert output.entropy.requires_grad is with_entropy_gradient
        return sum(n == size for n in tensors.values())

    assert kept(with_entropy_gradient=False) == kept(with_entropy_gradient=True) == 1


# Gradient checkpointing


def checkpointing(**config: Any) -> Policy:
    return tiny_policy(config=PolicyConfig(value_hidden_size=16, gradient_checkpointing=True), **config)


def test_gradient_checkpointing_recomputes_every_layer_and_changes_no_bit() -> None:
    ids, mask = some_tokens()
    gradients, calls = [], {"plain": 0, "recomputed": 0}
    for name, policy in (("plain", tiny_policy()), ("recomputed", checkpointing())):

        def count(*_: Any, name: str = name) -> None:
            calls[name] += 1

        policy.model.model.layers[0].mlp.register_forward_pre_hook(count)
        policy.evaluate(ids, mask).logprobs.sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad for parameter in policy.model.parameters()])
    assert calls == {"plain": 1, "recomputed": 2}
    assert all(torch.equal(plain, recomputed) for plain, recomputed in zip(*gradients, strict=True))


def test_gradient_checkpointing_wakes_no_dropout_and_leaves_the_engines_cache_alone() -> None:
    policy = checkpointing(attention_dropout=0.5)
    trajectories = sampled_trajectories(policy)
    assert make_trainer(policy).update(trajectories)["ratio_recompute_maxdev"] == 0
    assert not any(module.training for module in policy.model.modules())


def test_an_architecture_without_recomputable_layers_is_refused() -> None:
    with pytest.raises(BaselineError, match="BanditModel has no layers that can be recomputed"):
        Policy(BanditModel((0.5, 0.5)), make_tokenizer(), PolicyConfig(gradient_checkpointing=True))


# Digests


def test_a_digest_changes_with_one_bit_and_with_a_name() -> None:
    model = tiny_model()
    before = weights_digest(model)
    assert before == weights_digest(tiny_model())
    with torch.no_grad():
        model.model.norm.weight.view(torch.int32)[3] ^= 1
    assert weights_digest(model) != before
    assert weights_digest(torch.nn.ParameterDict({"a": torch.ones(2)})) != weights_digest(
        torch.nn.ParameterDict({"b": torch.ones(2)})
    )


def test_a_digest_covers_scalars_and_bfloat16() -> None:
    module = torch.nn.ParameterDict({"scale": torch.tensor(1.0), "w": torch.ones(3, dtype=torch.bfloat16)})
    assert weights_digest(module).startswith("sha256:")


def test_a_folders_digest_covers_weights_config_and_tokenizer_and_not_its_model_card(baseline: Path) -> None:
    before = folder_digest(baseline)
    (baseline / "README.md").write_text("a model card", encoding="utf-8")
    assert folder_digest(baseline) == before
    seen = {before}
    for name in ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "tokenizer.model"):
        with (baseline / name).open("ab") as file:
            file.write(b" ")
        seen.add(folder_digest(baseline))
    assert len(seen) == 6


# Loading


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    folder = tmp_path / "baseline"
    save_policy(tiny_policy(), folder)
    return folder


def run_config(folder: Path, **sections: Any) -> RunConfig:
    workflow = {"target": "t", "baseline": str(folder), **sections.pop("workflow", {})}
    return RunConfig.model_validate({"name": "n", "workflow": workflow, **sections})


def test_a_policy_is_loaded_as_it_was_saved(baseline: Path) -> None:
    policy = load_policy(run_config(baseline, inference={"kind": "in_process", "temperature": 0.7}))
    assert policy.digest() == tiny_policy().digest()
    assert policy.temperature == 0.7
    assert not policy.model.training


def test_the_critic_starts_from_the_seed(baseline: Path) -> None:
    first, same, other = (load_policy(run_config(baseline, seed=seed)).value_head.inner.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_missing_baseline_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"workflow\.baseline: no folder .*nowhere"):
        check_baseline(str(tmp_path / "nowhere"))


def test_a_folder_without_weights_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"holds no model\.safetensors"):
        check_baseline(str(tmp_path))


def test_a_pinned_baseline_must_not_change(baseline: Path) -> None:
    pin = folder_digest(baseline)
    assert check_baseline(str(baseline), pin) == baseline
    with (baseline / "config.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(BaselineError, match=f"pins {pin}, found sha256:.*pin the new one on purpose"):
        load_policy(run_config(baseline, workflow={"baseline_digest": pin}))


def test_a_baseline_that_lacks_a_weight_is_refused_rather_than_filled_at_random(baseline: Path) -> None:
    weights = load_file(baseline / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, baseline / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaselineError, match=r"lacks 1 weights, model\.layers\.1\.mlp\.up_proj\.weight first"):
        load_policy(run_config(baseline))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_baseline_with_a_truncated_file_is_refused(baseline: Path, name: str) -> None:
    (baseline / name).write_bytes((baseline / name).read_bytes()[:100])
    with pytest.raises(BaselineError, match="cannot be loaded"):
        load_policy(run_config(baseline))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(baseline: Path) -> None:
    save_policy(tiny_policy(), baseline)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["one", "two", "three"])
    with pytest.raises(BaselineError, match=f"tokens, the model embeddings for {VOCABULARY}"):
        Policy(tiny_model(), tokenizer, PolicyConfig())


def test_a_gpu_asked_for_where_there_is_none_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="cuda was asked for"):
        pick_device("cuda")
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


def test_scores_are_what_evaluate_says_at_any_temperature() -> None:
    policy, ids = tiny_policy(temperature=0.7), list(range(1, 30))
    mask = torch.arange(len(ids))[None] >= 10
    with torch.no_grad():
        evaluated = policy.evaluate(torch.tensor([ids]), mask).logprobs[mask].tolist()
    plain, tempered = policy.score(ids, 10, (1.0, 0.7))
    assert list(tempered) == pytest.approx(evaluated, abs=1e-6)
    assert max(abs(a - b) for a, b in zip(plain, tempered, strict=True)) > 0.1
