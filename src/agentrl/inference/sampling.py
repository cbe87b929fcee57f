"""The sampling distribution, and drawing from it with given random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """temperature, then top-k, then top-p, in the order of transformers."""

    temperature: float = 1.0
    top_p: float = 1.0
    """The smallest set of likeliest tokens that holds this much probability; 1 is all."""
    top_k: int | None = None
    """The k likeliest tokens, and those as likely as the k-th; 1 is greedy."""

    def logprobs(self, logits: Tensor) -> Tensor:
        """[B, V] logits to log-probabilities of the distribution that is sampled from, -inf for what is left out."""
        return torch.log_softmax(self._shaped(logits), dim=-1)

    def _shaped(self, logits: Tensor) -> Tensor:
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True, stable=True)
            probabilities = ordered.softmax(-1)
            is_out = probabilities.cumsum(-1) - probabilities >= self.top_p  # what stands before it is enough
            logits = logits.masked_fill(is_out.scatter(-1, order, is_out), -torch.inf)
        return logits

    def draw(self, logits: Tensor, uniforms: list[float]) -> tuple[list[int], list[float]]:
        """A token a row, by inverting the cumulative distribution at the row's own random number in [0, 1).

        One number a token: what a row draws does not depend on its neighbours.

        Returns:
            [B] token ids, and their log-probabilities in nats.

        Raises:
            FloatingPointError: the logits are not finite.
        """
        logits = self._shaped(logits)
        normaliser = logits.logsumexp(-1, keepdim=True)
        cumulative = (logits - normaliser).exp_().cumsum(-1, dtype=torch.float64)
        draws = torch.tensor(uniforms, dtype=torch.float64, device=cumulative.device)[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, draws, right=True).clamp_(max=logits.shape[-1] - 1)
        chosen = logits.gather(-1, tokens) - normaliser
        if not bool(chosen.isfinite().all()):
            raise FloatingPointError("the model's logits are not finite")
        return tokens[:, 0].tolist(), chosen[:, 0].tolist()
