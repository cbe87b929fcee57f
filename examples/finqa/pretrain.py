"""Teach the copying model to read pages: short episodes first (the page is given), then whole ones (it is searched).

The pages are of worlds of their own (other seeds than the data set's), fresh ones every few hundred steps, so that
nothing can be learnt by heart. The loss lies on what the assistant says and, lightly, on everything else.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from examples.finqa.demonstrations import CLEAN, Habits, Message, demonstrate
from examples.finqa.generate import Table, ask, generate_tables
from examples.finqa.pages import Corpus, Page
from examples.finqa.tools import FinqaTools

OTHER_WEIGHT = 0.03  # of a token that the assistant did not say
OTHER_FRACTION = 0.3  # of those tokens enter the loss, drawn anew each time: the vocabulary projection is the cost
WORLD_STEPS = 200
BATCH, ROWS = 64, 16  # episodes drawn together and sorted by length; rows of one optimiser step

Encoded = tuple[list[int], list[int]]


def as_page(table: Table) -> Page:
    """The generator's page as the tools' page."""
    report = table.report()
    return Page(report["path"], report["pre_text"], tuple(map(tuple, report["table"])), report["post_text"])


def episodes(
    tables: list[Table], rng: random.Random, prompt: str, *, with_search: bool, habits: Callable[[], Habits]
) -> Iterator[list[Message]]:
    """Endless demonstrations over one world, each tool answered by the real tools."""
    tools = FinqaTools(Corpus(tuple(map(as_page, tables)), ()), top_k=3)
    by_path = {table.path: table for table in tables}
    while True:
        asked = ask(rng.choice(tables), rng)
        episode = demonstrate(
            asked, tools.call, by_path, rng, habits=habits(), system_prompt=prompt, with_search=with_search
        )
        if episode is not None:
            yield episode


def encode(tokenizer: Any, messages: list[Message]) -> Encoded:
    """Ids and, for each, whether the assistant said it."""
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return encoded["input_ids"], encoded["assistant_masks"]


def weighted_loss(model: Any, rows: list[Encoded], pad_id: int) -> Tensor:
    """Mean cross entropy over the assistant's tokens plus a light one over a sample of the others."""
    length = max(len(ids) for ids, _ in rows)
    token_ids = torch.tensor([ids + [pad_id] * (length - len(ids)) for ids, _ in rows])
    said = torch.tensor([mask + [0] * (length - len(mask)) for _, mask in rows]).bool()
    real = torch.arange(length) < torch.tensor([len(ids) for ids, _ in rows])[:, None]
    others = real & (torch.rand(said.shape) < OTHER_FRACTION)
    weights = torch.where(said, 1.0, OTHER_WEIGHT / OTHER_FRACTION * others)[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(token_ids).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[weights > 0]).float()
    losses = torch.nn.functional.cross_entropy(logits, token_ids[:, 1:][weights > 0], reduction="none")
    chosen = weights[weights > 0]
    return (losses * chosen).sum() / chosen.sum()


def pretrain(
    model: Any,
    tokenizer: Any,
    *,
    prompt: str,
    short_tokens: float,
    whole_tokens: float,
    seed: int,
    habits: Habits = CLEAN,
    learning_rate: float = 1e-3,
    report: Callable[[str], None] = print,
) -> None:
    """Train in place on `short_tokens` tokens of short episodes and then `whole_tokens` of whole ones.

    Args:
        habits: of every other episode; detours make them long, which is what long contexts are learnt from.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    rng = random.Random(seed)
    total, seen, steps, started = short_tokens + whole_tokens, 0, 0, time.monotonic()
    source: Iterator[list[Message]] = iter(())
    is_whole, mean_loss = False, 0.0
    while seen < total:
        turned_whole = not is_whole and seen >= short_tokens
        is_whole |= turned_whole
        if steps % WORLD_STEPS == 0 or turned_whole:
            tables = generate_tables(1000 + seed * 1000 + steps)
            source = episodes(tables, rng, prompt, with_search=is_whole, habits=lambda: rng.choice((CLEAN, habits)))
        batch = sorted((encode(tokenizer, next(source)) for _ in range(BATCH)), key=lambda row: len(row[0]))
        rows_a_step = ROWS if habits == CLEAN else ROWS // 2  # long ones are heavier
        pieces = [batch[start : start + rows_a_step] for start in range(0, BATCH, rows_a_step)]
        rng.shuffle(pieces)
        for rows in pieces:
            loss = weighted_loss(model, rows, tokenizer.pad_token_id)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            # A short rise, then half a cosine down to a tenth.
            scale = min((steps + 1) / 100, 0.1 + 0.45 * (1 + math.cos(math.pi * min(seen / total, 1.0))))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * scale
            optimizer.step()
            optimizer.zero_grad()
            seen, steps = seen + sum(len(ids) for ids, _ in rows), steps + 1
            mean_loss += 0.02 * (loss.item() - mean_loss)
        if steps % 400 == 0:
            accuracy = copy_accuracy(model, tokenizer, prompt=prompt, seed=99)
            speed = seen / (time.monotonic() - started)
            report(
                f"{'whole' if is_whole else 'short'} episodes, {seen / 1e6:.1f} M tokens: loss {mean_loss:.3f}, "
                f"argument-copy accuracy {accuracy['tokens']:.3f} (whole calls {accuracy['calls']:.3f}), "
                f"{speed:.0f} tokens/s"
            )


@torch.no_grad()
def copy_accuracy(model: Any, tokenizer: Any, *, prompt: str, seed: int, n: int = 150) -> dict[str, float]:
    """How well figures reach the call or the answer, given the turns before: on pages of a world never trained on.

    Returns:
        tokens: share of the tokens of quoted figures, `calculate` arguments and answers that are the likeliest
        ones; calls: share of episodes where all of them are.
    """
    rng = random.Random(seed)
    source = episodes(generate_tables(seed), rng, prompt, with_search=False, habits=lambda: CLEAN)
    right = tokens = whole = 0
    for _ in range(n):
        ids, mask = encode(tokenizer, next(source))
        first = ids.index(
            tokenizer.convert_tokens_to_ids("<|tool|>")
        )  # the page: what is said after it is about figures
        said = [i for i in range(first, len(ids)) if mask[i]]
        guess = model(torch.tensor([ids])).logits[0].argmax(-1)
        hits = [bool(guess[i - 1] == ids[i]) for i in said]
        right, tokens, whole = right + sum(hits), tokens + len(hits), whole + all(hits)
    return {"tokens": right / tokens, "calls": whole / n}
