from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentrl.ppo.batch import check_trajectory, fresh_enough, make_batch
from tests.tiny import make_trajectory

GOOD = make_trajectory([([1, 2], False), ([3, 4], True), ([5], False), ([6], True)], reward=0.5)
SHORT = make_trajectory([([7], False), ([8], True)], reward=1.0)


def test_position_t_of_every_field_describes_token_t() -> None:
    batch = make_batch([GOOD, SHORT], pad_id=0)
    assert batch.token_ids.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0]]
    assert batch.action_mask.long().tolist() == [[0, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 0]]
    assert batch.engine_logprobs.tolist() == [[0, 0, -1, -1, 0, -1], [0, -1, 0, 0, 0, 0]]
    assert batch.turn_ids.tolist() == [[-1, -1, 1, 1, -1, 3], [-1, 1, -1, -1, -1, -1]]
    assert batch.rewards.tolist() == [0.5, 1.0]
    assert len(batch) == 2


def test_turns_have_their_rewards_on_their_last_tokens_and_their_states_on_all() -> None:
    first = replace(GOOD, task_id="a", turn_rewards=(0, 0.25, 0, 0.5), state_keys=("p", "s", "q", "r"))
    other = replace(SHORT, task_id="b", state_keys=("q", "s"))
    batch = make_batch([first, other, replace(SHORT, task_id="a")], pad_id=0)
    assert batch.turn_rewards.tolist() == [[0, 0, 0, 0.25, 0, 0.5], [0] * 6, [0] * 6]
    s, r = 1, 3  # numbers in the order of first appearance
    assert batch.state_ids.tolist() == [[-1, -1, s, s, -1, r], [-1, s, -1, -1, -1, -1], [-1] * 6]
    assert batch.group_ids.tolist() == [0, 1, 0]


def test_padding_is_never_an_action_even_when_the_pad_token_is_the_stop_token() -> None:
    stop = 8
    batch = make_batch([GOOD, SHORT], pad_id=stop)
    assert batch.action_mask.sum().item() == sum(GOOD.action_mask) + sum(SHORT.action_mask)
    assert batch.attention_mask.sum().item() == 8


def test_rows_are_cut_to_the_longest_among_them() -> None:
    batch = make_batch([GOOD, SHORT, GOOD], pad_id=0).rows(torch.tensor([1]))
    assert batch.token_ids.tolist() == [[7, 8]]
    assert batch.rewards.tolist() == [1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_ids": (1, 2, 3)}, "differ in length"),
        ({"turn_ids": (0,)}, "differ in length"),
        ({"policy_versions": (0,)}, "differ in length"),
        ({"action_mask": (False,) * 6}, "sampled no token"),
        ({"action_mask": (True, *GOOD.action_mask[1:])}, "first token"),
        ({"engine_logprobs": (0.0, 0.0, math.nan, -1.0, 0.0, -1.0)}, "log-probability nan"),
        ({"engine_logprobs": (0.0, 0.0, -math.inf, -1.0, 0.0, -1.0)}, "log-probability -inf"),
        ({"engine_logprobs": (0.0, 0.0, 0.1, -1.0, 0.0, -1.0)}, r"log-probability 0\.1"),
        ({"reward": math.nan}, "reward is nan"),
        ({"reward": math.inf}, "reward is inf"),
        ({"turn_rewards": (0.0, math.nan, 0.0, 0.0)}, "reward is nan"),
        ({"turn_rewards": (0.0, 1.0)}, "2 turn_rewards for 4 turns"),
        ({"state_keys": ("a",)}, "1 state_keys for 4 turns"),
    ],
)
def test_a_trajectory_that_breaks_an_invariant_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"trajectory r: .*{message}"):
        make_batch([SHORT, replace(GOOD, **change)], pad_id=0)


def test_what_lies_off_the_mask_is_not_judged() -> None:
    check_trajectory(replace(GOOD, engine_logprobs=(math.nan, 3.0, -1.0, -1.0, math.inf, -1.0)))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="no trajectory"):
        make_batch([], pad_id=0)


def test_the_oldest_token_decides_how_stale_a_trajectory_is() -> None:
    old, new = (make_trajectory([([1], False), ([2, 3], True)], policy_version=version) for version in (4, 5))
    mixed = replace(new, policy_versions=(-1, 4, 5))
    assert fresh_enough([old, new, mixed], policy_version=5, max_staleness=0) == [new]
    assert fresh_enough([old, new, mixed], policy_version=5, max_staleness=1) == [old, new, mixed]
    assert fresh_enough([old, new, mixed], policy_version=7, max_staleness=2) == [new]
