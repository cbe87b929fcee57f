"""Log-probabilities and entropies from hidden states, a chunk of the vocabulary's logits at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = {"cpu": 2**24, "cuda": 2**27}  # logits at once: 64 MiB and 512 MiB of float32


def chunked_logprobs(
    head: Callable[[Tensor], Tensor],
    states: Tensor,
    readers: Tensor,
    tokens: Tensor,
    *,
    temperature: float,
    vocabulary: int,
    with_entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Of tokens that were drawn after some states, several perhaps after the same one.

    One chunk of logits is kept for the backward pass; where there are more, each is computed again there, so that
    never more than one of them exists.

    Args:
        head: [n, hidden size] -> [n, V] logits.
        states: [U, hidden size].
        readers: [A] the state, of U, that token a was drawn after.
        tokens: [A].
        vocabulary: V.

    Returns:
        [A] log-probabilities, and [U] entropies of the states' distributions, at the temperature, in nats.
    """
    size = max(1, CHUNK[states.device.type] // vocabulary)
    order = torch.argsort(readers, stable=True)
    readers, tokens = readers[order], tokens[order]

    def piece(states: Tensor, readers: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(states)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = logits if temperature == 1 else logits / temperature
        result: tuple[Tensor, Tensor] = _Chosen.apply(logits, readers, tokens, with_entropy_gradient)  # type: ignore[no-untyped-call]
        return result

    if len(states) <= size:
        chosen, entropy = piece(states, readers, tokens)
    else:
        firsts = range(0, len(states), size)
        counts = torch.bincount(readers // size, minlength=len(firsts)).tolist()
        parts = zip(
            firsts, torch.split(states, size), torch.split(readers, counts), torch.split(tokens, counts), strict=True
        )
        found: Any = [checkpoint(piece, s, r - first, t, use_reentrant=False) for first, s, r, t in parts]
        chosen, entropy = (torch.cat(each) for each in zip(*found, strict=True))
    return torch.empty_like(chosen).index_copy(0, order, chosen), entropy


class _Chosen(torch.autograd.Function):
    """Log-softmax at some tokens, and the entropy; keeps the logits and nothing else of their size.

    d log p_a / d z = onehot_a - p;  dH / dz = -p * (log p + H).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, readers: Tensor, tokens: Tensor, with_entropy_gradient: bool) -> Any:
        lse = logits.logsumexp(-1)
        chosen = logits[readers, tokens] - lse[readers]
        logprobs = logits - lse[:, None]
        entropy = -torch.linalg.vecdot(logprobs.exp(), logprobs)
        ctx.save_for_backward(logits, lse, entropy, readers, tokens)
        if not with_entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        ctx.set_materialize_grads(False)
        return chosen, entropy

    @staticmethod
    def backward(ctx: Any, grad_chosen: Tensor | None, grad_entropy: Tensor | None) -> Any:
        logits, lse, entropy, readers, tokens = ctx.saved_tensors
        logprobs = logits - lse[:, None]
        factor = torch.zeros_like(lse)[:, None]
        if grad_chosen is not None:
            factor = factor.index_add(0, readers, -grad_chosen[:, None])
        if grad_entropy is not None:
            factor = factor - grad_entropy[:, None] * (logprobs + entropy[:, None])
        grad = logprobs.exp_().mul_(factor)
        if grad_chosen is not None:
            grad.index_put_((readers, tokens), grad_chosen, accumulate=True)
        return grad, None, None, None
