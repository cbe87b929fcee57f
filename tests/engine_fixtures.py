"""A tokenizer of a hundred characters, models of a few thousand weights, and fakes of what surrounds the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from agentrl.types import Grade, Rollout, ToolCall, ToolResult

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
CALL, YES, NO = '<tool_call>{"name": "look", "arguments": {"key": "a"}}</tool_call>', "yes", "no"

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
"""Like Qwen's: a line break follows the end-of-turn token."""


def make_tokenizer(template: str | None = TEMPLATE, *, eos: str | None = END) -> Any:
    """One token a character; a whole tool call, `yes` and `no` are tokens too, so that chance can write them."""
    characters = ["<unk>", *map(chr, range(32, 127)), "\n"]
    tokenizer = Tokenizer(models.WordLevel({character: i for i, character in enumerate(characters)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (PAD, START, END)])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (CALL, YES, NO)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token="<unk>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
        **({"eos_token": eos} if eos else {}),
    )


SIZES: dict[str, int] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def qwen3(vocab_size: int, **options: Any) -> Any:
    sizes = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64, "max_position_embeddings": 512}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocab_size, tie_word_embeddings=False, **{**sizes, **options}))


def llama(vocab_size: int, **options: Any) -> Any:
    sizes = {**SIZES, "num_key_value_heads": 4, "intermediate_size": 64, "max_position_embeddings": 512}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **{**sizes, **options}))


def gpt2(vocab_size: int, **options: Any) -> Any:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 160}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **{**sizes, **options}))


def seeded(make: Callable[..., Any], vocab_size: int = 100, seed: int = 3, **options: Any) -> Any:
    """A random model whose distributions are far from flat: with flat ones a wrong cache would hardly show."""
    torch.manual_seed(seed)
    model = make(vocab_size, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model


def chance_policy(tokenizer: Any, favoured: tuple[str, ...] = (CALL, YES, NO, END)) -> Any:
    """A model that draws from `favoured`, about evenly and whatever it reads: all of it can be learned from."""
    torch.manual_seed(5)
    model = qwen3(
        len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    ).eval()
    ids = tokenizer.convert_tokens_to_ids(list(favoured))
    with torch.no_grad():  # a constant in every hidden state is a bias of every logit
        model.model.embed_tokens.weight[:, 0] = 5.0
        model.lm_head.weight[:, 0] = -2.0
        model.lm_head.weight[ids, 0] = 0.0
    return model


class FakeTool:
    """Answers `output`, after a pause; remembers which rollout asked what."""

    def __init__(self, name: str = "look", answer: Callable[[ToolCall], str] | None = None, seconds: float = 0.0):
        self.name = name
        self.seconds = seconds
        self.seen: list[tuple[str, ToolCall]] = []
        self.running = self.most_running = 0
        self._answer = answer or (lambda _: "found")

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        del item
        self.seen.append((rollout_id, call))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
            return ToolResult(call.id, call.name, self._answer(call), self.seconds)
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        pass


class FakeGrader:
    """1 for a rollout that `is_right`, else 0; remembers whom it graded."""

    def __init__(self, is_right: Callable[[Rollout], bool] = lambda _: True) -> None:
        self.seen: list[Rollout] = []
        self._is_right = is_right

    async def grade(self, rollout: Rollout) -> Grade:
        self.seen.append(rollout)
        return Grade(float(self._is_right(rollout)))

    async def aclose(self) -> None:
        pass
