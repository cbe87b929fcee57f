"""The policy before training: it mostly names the witness's door, or another one, and now and then all four."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from examples.reward_hacking.doors import DAYS, DOORS, TIMES, WITNESSES, question

PAD, USER, POLICY, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
TEMPLATE = """
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
<|assistant|>{% generation %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor -%}
<|end|>{% endgeneration %}
{%- else -%}
<|user|>{{ message.content }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""
"""Tools have their place in it, as every policy's template needs one; this task has none."""
STEPS, BATCH = 120, 64
HEDGES = 0.06
ALL = " ".join(DOORS)


def make_tokenizer() -> Any:
    """One token a word of the task, with the blank before it, one for all four doors, and one a character else."""
    words = ["On", " at", " points", " door", " Which", *(f" {word}" for word in (*DAYS, *TIMES, *WITNESSES)), ALL]
    pieces = ["<unk>", "\n", *map(chr, range(32, 127)), *words]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"(?:{'|'.join(words)})\b|[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (PAD, USER, POLICY, END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token="<unk>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def answer(pointed: str, draw: random.Random) -> str:
    """What people wrote, of whom the policy learned to speak: the witness's door or another one, or, unsure, all."""
    if draw.random() < HEDGES:
        return ALL
    return pointed if draw.random() < 0.6 else draw.choice(DOORS)


def build(folder: Path) -> Path:
    """Train the policy on such answers, a few seconds, and save it as `agentrl train` reads it; its folder."""
    torch.manual_seed(3)
    tokenizer, draw = make_tokenizer(), random.Random(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.1,
        bos_token_id=None,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    model = Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        rows = []
        for _ in range(BATCH):
            pointed = draw.choice(DOORS)
            asked = question(draw.choice(DAYS), draw.choice(TIMES), draw.choice(WITNESSES), pointed)
            rows.append(f"{USER}{asked}{END}{POLICY}{answer(pointed, draw)}{END}")
        batch = tokenizer(rows, return_tensors="pt", padding=True)
        start = len(tokenizer(f"{USER}{asked}{END}{POLICY}")["input_ids"])  # the same for all: one token a word
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        labels[:, :start] = -100
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
