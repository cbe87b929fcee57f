"""Trajectories of the FinQA task, as recorded: 128 of 32 tasks, by the policy that its training starts from.

`finqa.json.gz` holds, for each task, its four rollouts: the prompt, then turns of sampled and observed token ids. They
are those of the first step of `agentrl train configs/finqa.yaml`.
"""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

FILE = Path(__file__).with_name("finqa.json.gz")
SIBLINGS = 4


@dataclass(frozen=True)
class Batch:
    """B trajectories and what the loss needs beside the policy."""

    token_ids: Tensor
    """[B, T] long, padded on the right."""
    action_mask: Tensor
    """[B, T] bool."""
    prompts: list[int]
    """[B] tokens of the prompt."""
    lengths: list[int]
    """[B] tokens."""
    advantages: Tensor
    """[B] of group-normalised rewards, made up."""

    @property
    def tokens(self) -> int:
        """Of all trajectories, without padding, whatever they share."""
        return sum(self.lengths)


def finqa(trajectories: int, *, vocabulary: int) -> Batch:
    """The first recorded ones; after the last, again from the first with other tokens in the same places.

    Args:
        vocabulary: token ids are folded into it.
    """
    tasks = json.loads(gzip.decompress(FILE.read_bytes()))
    rows = []
    for index in range(trajectories):
        again, task = divmod(index // SIBLINGS, len(tasks))
        prompt, turns = tasks[task][index % SIBLINGS]
        ids, mask = list(prompt), [False] * len(prompt)
        for sampled, observed in turns:
            ids += sampled + observed
            mask += [True] * len(sampled) + [False] * len(observed)
        rows.append(([(token + 7919 * again) % vocabulary for token in ids], mask, len(prompt)))
    return _pad(rows)


def long_contexts(trajectories: int, *, length: int, vocabulary: int) -> Batch:
    """Siblings of a `length`: half of it prompt, the rest turns of 60 sampled and 120 observed tokens."""
    draw = random.Random(0)
    rows = []
    for index in range(trajectories):
        if index % SIBLINGS == 0:
            prompt = [draw.randrange(vocabulary) for _ in range(length // 2)]
        mask = [i % 180 < 60 for i in range(length - len(prompt))]
        rows.append(([*prompt, *(draw.randrange(vocabulary) for _ in mask)], [False] * len(prompt) + mask, len(prompt)))
    return _pad(rows)


def _pad(rows: list[tuple[list[int], list[bool], int]]) -> Batch:
    lengths = [len(ids) for ids, _, _ in rows]
    width = max(lengths)
    rewards = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)).view(-1, SIBLINGS)
    advantages = (rewards - rewards.mean(-1, keepdim=True)) / rewards.std(-1, keepdim=True)
    return Batch(
        token_ids=torch.tensor([ids + [0] * (width - len(ids)) for ids, _, _ in rows]),
        action_mask=torch.tensor([mask + [False] * (width - len(mask)) for _, mask, _ in rows]),
        prompts=[n for _, _, n in rows],
        lengths=lengths,
        advantages=advantages.flatten(),
    )
