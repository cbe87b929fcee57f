from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from agentrl.config import PolicyConfig
from agentrl.policy.packing import Padded, PrefixTree, RowOrder, can_pack
from agentrl.policy.policy import Policy
from tests.engine_fixtures import make_tokenizer
from tests.tiny import VOCABULARY, bandit_policy, tiny_model, tiny_policy

Row = tuple[list[int], list[bool]]
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def mistral() -> Any:
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=7))


def gemma3() -> Any:
    types = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=7, layer_types=types))


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128))


MODELS = [tiny_model, lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)), mistral, gemma3, gpt2]
NAMES = ["qwen3", "llama", "mistral, window 7", "gemma3, window 7", "gpt2"]


def norm_in_full_precision(norm: Any, states: Tensor) -> Tensor:
    """RMS norm; transformers' own go through float32 whatever the weights are."""
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    scale = 1 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight
    normed: Tensor = states * (states.square().mean(-1, keepdim=True) + eps).rsqrt() * scale
    return normed


def make_policy(make: Any, dtype: torch.dtype = torch.float64, **config: Any) -> Policy:
    torch.manual_seed(0)
    policy = Policy(make().to(dtype), make_tokenizer(), PolicyConfig(value_hidden_size=16, critic="shared", **config))
    nn.init.normal_(policy.value_head.out.weight, std=0.3)
    policy.value_head.to(dtype)
    if dtype == torch.float64:
        for module in policy.model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = partial(norm_in_full_precision, module)
    return policy


def as_batch(rows: list[Row]) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids, _ in rows])
    mask = torch.tensor([[*mask, *[False] * (width - len(mask))] for _, mask in rows])
    return ids, mask


def family(seed: int = 0) -> list[Row]:
    """Two tasks: siblings that share the prompt, an action, and a tool's output; prefixes, twins, and tails."""
    draw = random.Random(seed)

    def run(n: int, is_action: bool) -> Row:
        return [draw.randrange(2, VOCABULARY) for _ in range(n)], [is_action] * n

    def join(*runs: Row) -> Row:
        return [token for ids, _ in runs for token in ids], [is_action for _, mask in runs for is_action in mask]

    prompt, other, call, answer = run(12, False), run(9, False), run(4, True), run(6, False)
    rows = [join(prompt, call, answer, run(n, True)) for n in (1, 5, 9)]
    rows += [join(prompt, run(3, True)), join(prompt, call), join(prompt, call), rows[1]]
    rows += [
        join(other, run(7, True), run(8, False)),
        join(other, run(2, True), run(3, False), run(6, True), run(5, False)),
    ]
    rows += [join(run(1, False), run(3, True))]
    draw.shuffle(rows)
    return rows


def loss_of(output: Any, mask: Tensor) -> Tensor:
    """Something that depends on every field of every action differently."""
    weights = torch.linspace(-1, 1, mask.numel(), dtype=output.logprobs.dtype).view(mask.shape)
    total: Tensor = (weights * (output.logprobs + 0.3 * output.entropy + 0.1 * output.values)).sum()
    return total


def gradients(policy: Policy, batches: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, Tensor]:
    """Of a sum over batches of (ids, mask, weights)."""
    policy.model.zero_grad()
    policy.value_head.zero_grad()
    for ids, mask, weights in batches:
        output = policy.evaluate(ids, mask, with_entropy_gradient=True)
        (weights * (output.logprobs + 0.3 * output.entropy + 0.1 * output.values)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in policy.named_parameters() if parameter.grad is not None}


def weights_for(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.linspace(-1, 1, mask.numel(), dtype=dtype).view(mask.shape)


def relative_difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert found.keys() == wanted.keys()
    scale = max(float(each.abs().max()) for each in wanted.values())
    return max(float((found[name] - wanted[name]).abs().max()) for name in wanted) / scale


# The same as row by row


@pytest.mark.parametrize("make", MODELS, ids=NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("is_recomputed", [False, True])
def test_a_trees_gradient_is_the_sum_of_its_rows(
    make: Any, dtype: torch.dtype, tolerance: float, is_recomputed: bool
) -> None:
    policy = make_policy(make, dtype, gradient_checkpointing=is_recomputed)
    assert policy.packs
    ids, mask = as_batch(family())
    weights = weights_for(mask, dtype)
    together = gradients(policy, [(ids, mask, weights)])
    policy.packs = False
    lengths = [len(row) for row, _ in family()]
    alone = [(ids[i : i + 1, :n], mask[i : i + 1, :n], weights[i : i + 1, :n]) for i, n in enumerate(lengths)]
    assert relative_difference(together, gradients(policy, alone)) < tolerance


@pytest.mark.parametrize("make", MODELS, ids=NAMES)
def test_a_tree_says_what_its_rows_say_and_the_same_with_and_without_gradients(make: Any) -> None:
    policy = make_policy(make, torch.float32)
    ids, mask = as_batch(family())
    packed = policy.evaluate(ids, mask)
    with torch.no_grad():
        silent = policy.evaluate(ids, mask)
    policy.packs = False
    padded = policy.evaluate(ids, mask)
    for name in ("logprobs", "entropy", "values"):
        assert torch.equal(getattr(packed, name), getattr(silent, name))
        torch.testing.assert_close(getattr(packed, name), getattr(padded, name), atol=2e-5, rtol=1e-5)


def test_random_trees_say_what_their_rows_say() -> None:
    policy = make_policy(mistral)
    draw = random.Random(1)
    for _ in range(40):
        rows: list[Row] = []
        for _ in range(draw.randint(1, 6)):
            ids = [draw.randint(2, 3) for _ in range(draw.randint(2, 12))]  # two words: they share much
            rows.append((ids, [False, *(draw.random() < 0.4 for _ in ids[1:])]))
        ids, mask = as_batch(rows)
        tree = PrefixTree.of(ids, mask)
        prefixes = {
            tuple(row[: t + 1]) for row, m in rows for t in range(max([i for i, a in enumerate(m) if a] or [1]))
        }
        assert tree.token_ids.numel() == len(prefixes)  # every prefix once
        with torch.no_grad():
            policy.packs = True
            packed = policy.evaluate(ids, mask)
            policy.packs = False
            torch.testing.assert_close(packed.logprobs, policy.evaluate(ids, mask).logprobs, atol=1e-10, rtol=0)


def test_a_gradient_is_the_slope_of_the_loss() -> None:
    policy = make_policy(tiny_model)
    ids, mask = as_batch(family())
    weights = weights_for(mask, torch.float64)
    analytic = gradients(policy, [(ids, mask, weights)])
    draw = torch.Generator().manual_seed(0)
    for name, parameter in policy.named_parameters():
        direction = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append(float(loss_of(policy.evaluate(ids, mask), mask)))
                parameter.sub_(direction, alpha=step)
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx(float((analytic[name] * direction).sum()), rel=1e-6, abs=1e-7), name


# What is not computed


def test_prompts_calls_and_tool_outputs_that_rows_share_are_computed_once_and_no_tail_is() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 9], [5, 6, 7, 1, 0, 0], [5, 6, 7, 8, 4, 3]])
    mask = torch.tensor([[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 1]], dtype=torch.bool)
    tree = PrefixTree.of(ids, mask)
    assert tree.token_ids.tolist() == [[5, 6, 7, 8, 4]]
    assert tree.position_ids.tolist() == [[0, 1, 2, 3, 4]]
    assert tree.before.tolist() == [2, 2, 2, 4]  # three actions are drawn after the same token
    order = RowOrder.of(ids, mask)
    assert sorted(zip(order.lengths.tolist(), order.shared.tolist(), strict=True)) == [(3, 0), (3, 3), (5, 3)]


def test_what_stands_after_the_last_action_or_in_the_padding_changes_no_bit() -> None:
    policy = make_policy(tiny_model, torch.float32)
    ids, mask = as_batch(family())
    changed, columns = ids.clone(), torch.arange(ids.shape[1])
    changed[columns > torch.where(mask, columns, 0).amax(-1, keepdim=True)] = 77
    wide = torch.nn.functional.pad(changed, (0, 9), value=3), torch.nn.functional.pad(mask, (0, 9))
    weights = weights_for(mask, torch.float32)
    wanted = gradients(policy, [(ids, mask, weights)])
    found = gradients(policy, [(*wide, torch.nn.functional.pad(weights, (0, 9)))])
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_no_token_of_a_tool_is_a_target() -> None:
    policy = make_policy(tiny_model)
    ids, mask = as_batch(family())
    logits = policy.model(ids).logits
    rows = torch.arange(len(ids))[:, None].expand(ids.shape)
    output = policy.evaluate(ids, mask)
    for part in (output.logprobs, output.entropy, output.values):
        assert not part[~mask].any()
    seen = logits.log_softmax(-1)[rows[:, 1:], torch.arange(ids.shape[1] - 1), ids[:, 1:]]
    torch.testing.assert_close(output.logprobs[mask], seen[mask[:, 1:]], atol=1e-10, rtol=0)


# Who can


def test_rows_without_pluggable_attention_or_with_sinks_caps_or_another_kernel_stay_rows() -> None:
    oss = {**SHAPE, "num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 8}
    assert not can_pack(GptOssForCausalLM(GptOssConfig(**oss)))
    assert not can_pack(Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8)))
    assert not can_pack(tiny_model(attn_implementation="eager"))
    assert not bandit_policy((0.5, 0.5)).packs
    assert can_pack(tiny_model())


def test_a_model_that_says_something_else_of_a_tree_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    attend = PrefixTree._attend_segment

    def forgetful(self: PrefixTree, query: Tensor, k: Tensor, v: Tensor, *window: Any, **options: Any) -> Tensor:
        n = query.shape[2]
        return attend(self, query, k[:, :, -n:], v[:, :, -n:], *window, **options)  # no ancestors

    monkeypatch.setattr(PrefixTree, "_attend_segment", forgetful)
    assert not can_pack(model)


def test_a_pass_over_a_tree_leaves_the_model_as_it_was() -> None:
    policy = tiny_policy()
    ids, mask = as_batch(family())
    before, forward = policy.model(ids).logits, policy.model.model.forward
    policy.evaluate(ids, mask)
    assert torch.equal(policy.model(ids).logits, before)
    assert policy.model.config._attn_implementation == "sdpa"
    assert policy.model.model.forward == forward
    assert "forward" not in vars(policy.model.model)
    assert isinstance(policy.arrange(ids, mask), PrefixTree)
    policy.packs = False
    assert isinstance(policy.arrange(ids, mask), Padded)
