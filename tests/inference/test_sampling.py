from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from agentrl.inference.sampling import Sampling


def logits(rows: int = 5, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, 40, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, None), (0.8, None), (0.3, None), (1.0, 5), (0.9, 10), (1.0, 99)])
def test_the_distribution_is_that_of_transformers(temperature: float, top_p: float, top_k: int | None) -> None:
    scores = TemperatureLogitsWarper(temperature)(None, logits())
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    found = Sampling(temperature, top_p, top_k).logprobs(logits())
    assert torch.equal(found.isfinite(), scores.isfinite())
    assert torch.allclose(found, scores.log_softmax(-1), atol=1e-6)


def test_tokens_come_as_often_as_their_probability_says() -> None:
    sampling, rng, n = Sampling(0.8, 0.9), random.Random(3), 20_000
    row = logits(1)
    tokens, logprobs = sampling.draw(row.expand(n, -1), [rng.random() for _ in range(n)])
    probabilities = sampling.logprobs(row)[0].exp()
    counts = Counter(tokens)
    for token, probability in enumerate(probabilities.tolist()):
        assert abs(counts[token] - n * probability) <= 5 * (n * probability * (1 - probability)) ** 0.5
    assert torch.tensor(logprobs).allclose(probabilities.log()[torch.tensor(tokens)])


def test_a_row_draws_by_its_own_number() -> None:
    sampling, uniforms = Sampling(), [0.1, 0.9, 0.5, 0.0, 0.999999]
    together = sampling.draw(logits(), uniforms)
    alone = [sampling.draw(logits()[i : i + 1], [uniform]) for i, uniform in enumerate(uniforms)]
    assert together == ([ids[0] for ids, _ in alone], [logprobs[0] for _, logprobs in alone])


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        Sampling().draw(torch.full((1, 4), float("nan")), [0.5])
