from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agentrl.policy import logprobs
from agentrl.policy.logprobs import chunked_logprobs
from tests.tiny import tiny_policy

V, U, SIZE = 50, 11, 8
READERS = torch.tensor([7, 0, 0, 3, 10, 9, 3, 3, 1, 5])  # several tokens may be drawn after one state, some after none
TOKENS = torch.tensor([1, 2, 2, 49, 0, 7, 3, 4, 5, 6])


@pytest.fixture(params=[1, 3, U, 1000], ids=lambda n: f"{n} states at once")
def states_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(logprobs.CHUNK, "cpu", request.param * V + 1)
    return int(request.param)


def head_and_states(dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(SIZE, V, dtype=dtype), torch.randn(U, SIZE, dtype=dtype, requires_grad=True)


def by_definition(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    log = (logits / temperature).log_softmax(-1)
    return log[READERS, TOKENS], -(log.exp() * log).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("with_entropy_gradient", [True, False])
def test_chunks_say_what_the_definition_says_and_so_do_their_gradients(
    states_at_once: int, temperature: float, with_entropy_gradient: bool
) -> None:
    head, states = head_and_states()
    inputs = [states, *head.parameters()]
    weights = torch.linspace(-1, 2, len(TOKENS), dtype=torch.float64)

    def loss(chosen: Tensor, entropy: Tensor) -> Any:
        bonus = (entropy * torch.arange(U)).sum()
        return (weights * chosen).sum() + (bonus if with_entropy_gradient else bonus.detach())

    wanted = by_definition(head(states), temperature)
    options: dict[str, Any] = {"temperature": temperature, "vocabulary": V}
    found = chunked_logprobs(head, states, READERS, TOKENS, with_entropy_gradient=with_entropy_gradient, **options)
    assert found[1].requires_grad is with_entropy_gradient
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    for one, other in zip(
        torch.autograd.grad(loss(*found), inputs), torch.autograd.grad(loss(*wanted), inputs), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_no_more_than_one_chunk_of_logits_is_kept_or_made(states_at_once: int) -> None:
    head, states = head_and_states()
    asked: list[int] = []

    def counted(part: Tensor) -> Tensor:
        asked.append(len(part))
        logits: Tensor = head(part)
        return logits

    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        chosen, _ = chunked_logprobs(counted, states, READERS, TOKENS, temperature=1.0, vocabulary=V)
    chosen.sum().backward()  # type: ignore[no-untyped-call]
    chunks = -(-U // states_at_once)
    assert max(asked) <= states_at_once
    assert sum(asked) == (U if chunks == 1 else 2 * U)  # a single chunk is not computed again
    assert max(kept.values()) <= (U * V if chunks == 1 else max(U * SIZE, V * SIZE))


def test_bfloat16_logits_become_float32_log_probabilities() -> None:
    head, states = head_and_states(torch.bfloat16)
    chosen, entropy = chunked_logprobs(head, states, READERS, TOKENS, temperature=1.0, vocabulary=V)
    wanted = by_definition(head(states).float(), 1.0)
    assert chosen.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(chosen, wanted[0], atol=1e-5, rtol=0)


def test_a_certain_token_has_a_log_probability_of_no_more_than_0() -> None:
    logits = torch.tensor([[100.0, 0.0, 0.0], [3.0, 3.0, -torch.inf]])
    tokens = torch.tensor([0, 1])
    chosen, entropy = chunked_logprobs(lambda _: logits, logits, tokens, tokens, temperature=1.0, vocabulary=3)
    assert chosen.max() <= 0
    assert entropy[0] == pytest.approx(0, abs=1e-6)


def test_a_policy_in_chunks_says_what_it_says_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(1, 100, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12).expand(3, 12) > 4
    results = []
    for size in (2**24, 300):
        monkeypatch.setitem(logprobs.CHUNK, "cpu", size)
        policy = tiny_policy()
        output = policy.evaluate(ids, mask)
        output.logprobs.sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert torch.equal(policy.evaluate(ids, mask).logprobs, output.logprobs)
        results.append([output.logprobs.detach(), *(each.grad for each in policy.model.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
