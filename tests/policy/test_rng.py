from __future__ import annotations

import json
import random

import numpy as np
import torch

from agentrl.policy.rng import restore_rng, rng_state


def draw() -> list[float]:
    drawn = [random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn())]
    return [*drawn, *torch.rand(3).tolist(), *torch.randn(17).tolist()]


def test_every_generator_goes_on_with_the_numbers_that_were_next() -> None:
    draw()  # now gauss() and randn() keep a second number for the next call
    state = json.dumps(rng_state(), allow_nan=False)
    expected = draw()
    draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    restore_rng(json.loads(state))
    assert draw() == expected


def test_looking_at_the_state_draws_nothing() -> None:
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = draw()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    rng_state()
    assert draw() == expected
