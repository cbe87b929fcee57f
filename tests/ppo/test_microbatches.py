from __future__ import annotations

import random

import pytest
import torch

from agentrl.policy.packing import PrefixTree
from agentrl.ppo.batch import make_batch
from agentrl.ppo.microbatches import microbatches
from agentrl.types import Trajectory
from tests.tiny import make_trajectory


def lengths_of(*lengths: int) -> list[Trajectory]:
    return [make_trajectory([([i + 1], False), ([2] * (n - 1), True)]) for i, n in enumerate(lengths)]


def groups(n_groups: int, siblings: int) -> list[Trajectory]:
    """Shuffled; a prompt of 30 tokens and answers of 1 to 10."""
    draw = random.Random(0)
    prompts = [[draw.randrange(50) for _ in range(30)] for _ in range(n_groups)]
    answers = [[draw.randrange(50) for _ in range(draw.randint(1, 10))] for _ in range(n_groups * siblings)]
    rows = [make_trajectory([(prompts[i % n_groups], False), (answer, True)]) for i, answer in enumerate(answers)]
    draw.shuffle(rows)
    return rows


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("max_tokens", [1, 20, 45, 1000])
def test_every_row_is_in_one_piece_and_no_piece_of_several_rows_is_too_large(packs: bool, max_tokens: int) -> None:
    batch = make_batch([*lengths_of(9, 3, 30, 4, 5, 2, 9, 12), *groups(3, 4)], pad_id=0)
    pieces = microbatches(batch, max_tokens, packs=packs)
    assert sorted(torch.cat(pieces).tolist()) == list(range(len(batch)))
    for piece in pieces:
        rows = batch.rows(piece)
        computed = PrefixTree.of(rows.token_ids, rows.action_mask).token_ids if packs else rows.token_ids
        assert len(piece) == 1 or computed.numel() <= max_tokens


def test_siblings_travel_together_and_their_prompt_counts_once() -> None:
    rows = [make_trajectory([([g] * 30, False), ([10 + i, 2, 3, 4, 5], True)]) for i in range(5) for g in range(4)]
    batch = make_batch(rows, pad_id=0)
    pieces = microbatches(batch, 50, packs=True)  # 30 of the prompt, 4 before the last token of each of five answers
    assert [len({rows[i].token_ids[:30] for i in piece.tolist()}) for piece in pieces] == [1, 1, 1, 1]


def test_without_packing_rows_of_similar_length_travel_together() -> None:
    batch = make_batch(lengths_of(50, 4, 50, 4, 4, 50), pad_id=0)
    assert [sorted(piece.tolist()) for piece in microbatches(batch, 160, packs=False)] == [[1, 3, 4], [0, 2, 5]]


@pytest.mark.parametrize("packs", [True, False])
def test_a_row_longer_than_a_microbatch_travels_alone(packs: bool) -> None:
    batch = make_batch(lengths_of(3, 90, 90), pad_id=0)
    assert [piece.tolist() for piece in microbatches(batch, 10, packs=packs)] == [[0], [1], [2]]


@pytest.mark.parametrize("packs", [True, False])
def test_there_is_a_piece_for_each_rank(packs: bool) -> None:
    batch = make_batch(groups(4, 4), pad_id=0)
    assert len(microbatches(batch, 10_000, packs=packs)) == 1
    assert len(microbatches(batch, 10_000, packs=packs, parts=3)) >= 3
