"""Teach a fresh model to copy, before it sees a single page.

Copying a figure from a page into a call is what this task asks for most, and what a small model learns last: with
random initial weights, five million tokens of pages taught the format and no digit. So the model starts with the
circuit that copies (Olsson et al. 2022, "In-context Learning and Induction Heads"): in layer 0, heads that look one
and two tokens back; in layer 1, heads that look for the place where the current token (and the one before it) stood
earlier, and say what came next. Sequences of random tokens that repeat their own pieces then tune it: after 0.3 M
tokens it copies any token of the vocabulary. All of it stays ordinary, trainable weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

CONSTANT = 0  # hidden dimension that is the same for every token: heads that go by position alone read it
STAGES = ((32, 8, 64), (64, 12, 64), (256, 24, 96), (1024, 40, 128), (None, 48, 128), (None, 100, 256))
"""(vocabulary, distinct tokens, length) of the sequences; the next stage begins when the last one is mastered."""


@torch.no_grad()
def wire_induction_heads(model: Any) -> None:
    """Set layers 0 and 1 of a Qwen3-shaped model (rotary positions, norm on queries and keys) to copy."""
    config = model.config
    size, n_groups = config.head_dim, config.num_key_value_heads
    heads_per_group, half = config.num_attention_heads // n_groups, config.head_dim // 2
    frequencies = [config.rope_parameters["rope_theta"] ** (-i / half) for i in range(half)]
    fast = [i for i, frequency in enumerate(frequencies) if frequency > 0.12]  # tells neighbours apart
    slow = [i for i, frequency in enumerate(frequencies) if frequency < 0.006]  # hardly turns within a page
    still = slow + [i + half for i in slow]
    model.model.embed_tokens.weight[:, CONSTANT] = 0.1
    model.model.norm.weight.fill_(3.0)  # sharper predictions from tied embeddings
    back, match = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    for attention in (back, match):
        attention.q_norm.weight.fill_(2.0)
        attention.k_norm.weight.fill_(2.0)
    orthogonal = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size))[0]
    remembered = _without_constant(config.hidden_size, size)  # what of a token its successors are told
    told = [orthogonal[:, group * size : (group + 1) * size] for group in range(2)]  # where: one back, two back
    for group in range(2):
        rows = slice(group * size, (group + 1) * size)
        still_rows = [group * size + i for i in still]
        copied = _without_constant(config.hidden_size, size)
        back.k_proj.weight[rows] *= 0.1
        back.k_proj.weight[[group * size + i for i in fast], CONSTANT] = 1.0
        back.v_proj.weight[rows] = remembered.T
        match.k_proj.weight[rows] *= 0.1
        match.v_proj.weight[rows] = copied.T
        # Group 0 matches two tokens at once, group 1 the last one alone.
        half_still = len(still) // 2
        pair_key = torch.cat([told[0][:, :half_still], told[1][:, half_still : len(still)]], dim=1)
        pair_query = torch.cat([remembered[:, :half_still], told[0][:, half_still : len(still)]], dim=1)
        match.k_proj.weight[still_rows] = (pair_key if group == 0 else told[0][:, : len(still)]).T
        for head in range(group * heads_per_group, (group + 1) * heads_per_group):
            columns = slice(head * size, (head + 1) * size)
            back.q_proj.weight[columns] *= 0.1
            for i in fast:  # a query turned back by `group + 1` positions meets the key that stands there
                angle = (group + 1) * frequencies[i]
                back.q_proj.weight[head * size + i, CONSTANT] = math.cos(angle)
                back.q_proj.weight[head * size + i + half, CONSTANT] = -math.sin(angle)
            back.o_proj.weight[:, columns] = 0.05 * told[group] / heads_per_group
            match.q_proj.weight[columns] *= 0.1
            query = pair_query if group == 0 else remembered[:, : len(still)]
            match.q_proj.weight[[head * size + i for i in still]] = query.T
            match.o_proj.weight[:, columns] = 0.15 * copied / heads_per_group


def _without_constant(rows: int, columns: int) -> Tensor:
    basis = torch.linalg.qr(torch.randn(rows, columns))[0]
    basis[CONSTANT] = 0
    return basis


def repeating_batch(order: Tensor, distinct: int, length: int, *, rows: int = 16) -> tuple[Tensor, Tensor]:
    """Random tokens, then random pieces of them.

    Args:
        order: [V'] tokens to draw from.

    Returns:
        token ids [rows, length], and [rows, length] bool: True where the token follows from the piece so far.
    """
    sequences, masks = [], []
    for _ in range(rows):
        tokens = order[torch.randperm(len(order))[:distinct]]
        pieces, mask, n = [tokens], [torch.zeros(distinct, dtype=torch.bool)], distinct
        while n < length:
            size = int(torch.randint(2, min(9, distinct // 2 + 1), (1,)))
            start = int(torch.randint(0, distinct - size, (1,)))
            pieces.append(tokens[start : start + size])
            mask.append(torch.arange(size) > 0)
            n += size
        sequences.append(torch.cat(pieces)[:length])
        masks.append(torch.cat(mask)[:length])
    return torch.stack(sequences), torch.stack(masks)


def learn_to_copy(model: Any, *, n_special: int, max_tokens: int, learning_rate: float = 1e-3) -> float:
    """Train on repeating sequences, harder and harder; returns the accuracy of the last ones (1 is all right)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    order = n_special + torch.randperm(model.config.vocab_size - n_special)
    seen, steps, stage, accuracy = 0, 0, 0, 0.0
    while seen < max_tokens:
        vocabulary, distinct, length = STAGES[stage]
        token_ids, follows = repeating_batch(order[:vocabulary], distinct, length)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(token_ids).last_hidden_state[:, :-1]
            logits = model.lm_head(hidden[follows[:, 1:]]).float()
        target = token_ids[:, 1:][follows[:, 1:]]
        torch.nn.functional.cross_entropy(logits, target).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (steps + 1) / 50)
        optimizer.step()
        optimizer.zero_grad()
        seen, steps = seen + token_ids.numel(), steps + 1
        accuracy = 0.9 * accuracy + 0.1 * float((logits.argmax(-1) == target).float().mean())
        if accuracy > 0.85 and stage < len(STAGES) - 1:
            stage, accuracy = stage + 1, 0.2
    return accuracy
