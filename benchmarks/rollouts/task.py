"""What every system is given: one model, one tokenizer, one task, one tool.

The task: a key leads to another key; follow it for n hops with the tool `lookup` and name the last one. Before every
call the model thinks aloud for a random number of words, geometric with a heavy tail, so that turns differ in length
and a few rollouts ramble into their budget, as policies do. Fine-tuning teaches these habits and the form of a call;
which key it follows makes no difference to the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from agentrl.types import Grade, Rollout, Task, ToolCall, ToolResult

VOCABULARY = 2048
MAX_HOPS = 4
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
SYSTEM = """You follow a trail of keys. Every key leads to exactly one other key, and only the tool can tell which.
The tool is called lookup. It takes one argument, key, and it answers with the next key of the trail. To call it, write
a JSON object with the name of the tool and its arguments between the two tags for tool calls, and nothing behind it.
You are given a first key and a number of hops. Make one call for each hop, one after the other, never two at once. Say
first how many hops are left and which key you hold; then you may think aloud for as long as you like before you write
the call. Never guess a key and never skip one, even when you believe that you have seen it before. When no hop is left,
stop calling the tool and give the last key as your answer, in one short line."""
TEMPLATE = r"""
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor -%}
<|im_end|>{% endgeneration %}
{%- else -%}
{{ message.content }}<|im_end|>
{%- endif -%}
{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""


def _made_up_words() -> list[str]:
    """Words of two syllables in a fixed order: the first 64 are keys, the rest is what thoughts are made of."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    return random.Random(0).sample([first + second for first in syllables for second in syllables], 1600)


KEYS, WORDS, RAMBLING = (lambda words: (words[:64], words[64:128], words[128:]))(_made_up_words())


@dataclass(frozen=True)
class Scale:
    """How large the benchmark is."""

    hidden_size: int = 256
    layers: int = 4
    prompts: int = 8
    samples: int = 4
    completion_tokens: int = 448  # of an episode, tool outputs included
    forced_tokens: int = 96  # of one turn, where no tool is in play
    context: int = 330  # positions that a decode step attends to
    waiting_prompts: int = 16  # times `samples`: rollouts at once where the waiting is measured
    long_context: int = 8192
    sft_steps: int = 300

    @property
    def rollouts(self) -> int:
        return self.prompts * self.samples


QUICK = Scale(64, 2, 2, 2, 96, 8, 280, 2, 1024, 3)


def opening(key: str, hops: int) -> list[dict[str, Any]]:
    """System message and question."""
    question = f'Start at the key "{key}" and follow it for {hops} hops.'
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def make_tasks(scale: Scale, seed: int, count: int | None = None) -> list[Task]:
    """Questions with 1 to 4 hops, evenly; other keys for every seed."""
    keys = random.Random(seed).sample(KEYS, count or scale.prompts)
    hops = [index % MAX_HOPS + 1 for index in range(len(keys))]
    return [Task(f"{seed}-{i}", tuple(opening(*pair))) for i, pair in enumerate(zip(keys, hops, strict=True))]


def conversation(draw: random.Random, *, with_system: bool = True) -> list[dict[str, Any]]:
    """One episode as the model should write it."""
    hops, key = draw.randint(1, MAX_HOPS), draw.choice(KEYS)
    messages = opening(key, hops)[not with_system :]
    for left in range(hops, 0, -1):
        call = {"type": "function", "function": {"name": "lookup", "arguments": {"key": key}}}
        messages.append({"role": "assistant", "content": _thought(draw, left, key), "tool_calls": [call]})
        key = next_key(key)
        messages.append({"role": "tool", "name": "lookup", "content": found(key)})
    return [*messages, {"role": "assistant", "content": f'{_thought(draw, 0, key)} Answer: "{key}"'}]


def _thought(draw: random.Random, left: int, key: str) -> str:
    rambles = draw.random() < 0.03
    words = int(draw.expovariate(1 / 250 if rambles else 1 / 25)) + 1
    return f'{left} hops left, at "{key}".' + "".join(
        f" {draw.choice(RAMBLING if rambles else WORDS)}" for _ in range(words)
    )


def next_key(key: str) -> str:
    """Where a key leads; a made-up key leads to the first one."""
    return KEYS[(KEYS.index(key) * 5 + 3) % len(KEYS)] if key in KEYS else KEYS[0]


def found(key: str) -> str:
    """The tool's answer."""
    return f'Next key: "{key}".'


def make_tokenizer() -> Any:
    """Byte-level BPE of 2048 entries; keys, thinking words and the words of the prompt are one token each."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True) for text in (PAD, START, END)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    call = '{"name": "lookup", "arguments": {"key": "bado"}} Answer: '
    frequent = [
        SYSTEM,
        *"system user assistant tool".split(),
        call,
        *(f'"{key}" {found(key)} {opening(key, 1)[1]["content"]}' for key in KEYS),
    ]
    tokenizer.train_from_iterator([*frequent * 50, *(f" {word}" for word in (*WORDS * 20, *RAMBLING * 2))], trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<tool_call>", "</tool_call>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def make_model(scale: Scale, tokenizer: Any) -> Any:
    """A random Qwen3, untied: a vLLM server on the CPU cannot reload tied embeddings."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=scale.hidden_size,
        intermediate_size=3 * scale.hidden_size,
        num_hidden_layers=scale.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=scale.long_context,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()


def endless(model: Any) -> Any:
    """The same shape with random weights that never end a turn: a constant in every hidden state silences the token."""
    model = Qwen3ForCausalLM(model.config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 5.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[model.config.eos_token_id, 0] = -100.0
    return model


def fine_tune(model: Any, tokenizer: Any, steps: int) -> None:
    """Teach the model to write like `conversation`: a plain loop, loss on its own tokens only.

    Four steps of five leave the system message out: they cost half as much and teach the same.
    """
    draw = random.Random(1)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        rows = tokenizer.apply_chat_template(
            [conversation(draw, with_system=step > 0.8 * steps) for _ in range(4)],
            return_dict=True,
            return_assistant_tokens_mask=True,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=600,
        )
        labels = rows["input_ids"].masked_fill(rows["assistant_masks"] == 0, -100)
        loss = model(input_ids=rows["input_ids"], labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def prepare(folder: Path, scale: Scale) -> Path:
    """Build and fine-tune the model, once; returns the folder below `folder` that holds model and tokenizer."""
    folder /= hashlib.sha256(f"{scale}{SYSTEM}{TEMPLATE}".encode()).hexdigest()[:8]
    if (folder / "config.json").is_file():
        return folder
    tokenizer = make_tokenizer()
    model = make_model(scale, tokenizer)
    fine_tune(model, tokenizer, scale.sft_steps)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of `prepare`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model.eval(), AutoTokenizer.from_pretrained(folder)


class LookupTool:
    """The tool for agentrl: it answers after `seconds`, and any number of calls wait side by side.

    A rollout's fifth call is answered at once: it is written in the last turn, whose calls trl does not make at all.
    """

    name = "lookup"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: Counter[str] = Counter()

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        del item
        self._calls[rollout_id] += 1
        seconds = self._seconds if self._calls[rollout_id] <= MAX_HOPS else 0.0
        await asyncio.sleep(seconds)
        key = str(json.loads(call.arguments).get("key"))
        return ToolResult(call.id, call.name, found(next_key(key)), seconds)

    async def aclose(self) -> None:
        pass


class AnyAnswer:
    """A grader that takes no time."""

    async def grade(self, rollout: Rollout) -> Grade:
        return Grade(float("Answer" in rollout.answer))

    async def aclose(self) -> None:
        pass
