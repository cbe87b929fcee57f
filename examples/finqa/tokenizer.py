"""The small policy's own tokenizer: one token a word, one token for each integer up to 999, bytes for the rest.

A number is cut the same way wherever it stands ("12,345" is "12" "," "345" and "482.3" is "482" ".3"), so copying a
figure from a page into a call is copying two or three tokens. Tool calls use the Hermes syntax
`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`; its fixed parts are tokens of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, END, SYSTEM, USER, ASSISTANT, TOOL = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
SPECIAL_TOKENS = (PAD, END, SYSTEM, USER, ASSISTANT, TOOL)
CALL_PIECES = ('<tool_call>{"name": "', '", "arguments": {"', '": "', '"}}</tool_call>', "\n")
NUMBER = r"▁?(?:19|20)\d{2}(?!\d)|\.\d|▁?\d{1,3}(?=(?:\d{3})*(?!\d))"

CHAT_TEMPLATE = """
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
<|assistant|>{% generation %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor -%}
<|end|>{% endgeneration %}
{%- else -%}
<|{{ 'system' if message.role == 'developer' else message.role }}|>{{ message.content }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""


def _words(texts: Iterable[str]) -> list[str]:
    return sorted({word for text in texts for word in re.findall(r"[^\W\d_]+", text)})


def build_tokenizer(texts: Iterable[str], *, inner_words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer that knows every word of `texts`.

    Args:
        texts: what the policy will read and write; each word becomes one token.
        inner_words: words that also stand directly after a punctuation mark, as a path's parts do.
    """
    words = _words(texts)
    plain = [f"▁{word}" for word in words] + [f"▁{number}" for number in (*range(1000), *range(1990, 2040))]
    inner = [f"{number:03d}" for number in range(1000)] + [str(number) for number in (*range(100), *range(1990, 2040))]
    inner += [f".{digit}" for digit in range(10)] + sorted(set(inner_words)) + ["/page_", "page_", "▁page_"]
    marks = list("()+-*/%$.,;:?!'\"{}[]<>=_&|#@~^`\\")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [
        chr(code) for code in range(ord("A"), ord("Z") + 1)
    ]
    singles = marks + [f"▁{mark}" for mark in marks] + ["▁", *letters, *[f"▁{letter}" for letter in letters]]
    # A whole word always beats its letters; bytes come last, for text that no piece covers.
    pieces = [("<unk>", -100.0)]
    pieces += [(f"<0x{byte:02X}>", -90.0) for byte in range(256)]
    known = {piece for piece, _ in pieces}
    for candidates, score in ((plain + inner, -1.0), (singles, -10.0)):
        for piece in candidates:
            if piece not in known:
                known.add(piece)
                pieces.append((piece, score))
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace("\u2581", "_")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(NUMBER), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            # A word after a token that is not a word carries no space of its own.
            *[decoders.Replace(f"{before}▁", before) for before in ('"', "\n", "<tool_call>", "|>")],
            decoders.Replace("▁", " "),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in CALL_PIECES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token="<unk>",
        chat_template=CHAT_TEMPLATE.strip(),
        clean_up_tokenization_spaces=False,
    )
