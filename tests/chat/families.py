"""Tokenizers that carry the control tokens of real model families, over single bytes, and a template for each.

The templates are short but true to the syntax: what stands around a call and a tool's output is what the family's own
template writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERMES = r"""
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|im_start|>user' if loop.previtem.role != 'tool' -}}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
{{- '<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' -}}
{%- else -%}
{{- '<|im_start|>' + message.role + '\n' + message.content -}}
{%- for call in message.tool_calls or [] -%}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson -}}
{{- '}\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\n' if add_generation_prompt -}}
"""

QWEN3_DROPS_THOUGHTS = r"""
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' -}}
{%- else -%}
{{- '<|im_start|>' + message.role + '\n' -}}
{{- '<think>\n' + (message.reasoning_content or '') + '\n</think>\n\n' if message.role == 'assistant' and loop.last -}}
{{- message.content -}}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson -}}
{{- '}\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\n' if add_generation_prompt -}}
"""

QWEN_XML = r"""
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' -}}
{%- else -%}
{{- '<|im_start|>' + message.role + '\n' -}}
{{- '<think>\n' + (message.reasoning_content or '') + '\n</think>\n\n' if message.role == 'assistant' -}}
{{- message.content -}}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>\n<function=' + call.function.name + '>\n' -}}
{%- for key, value in call.function.arguments | items -%}
{{- '<parameter=' + key + '>\n' + (value if value is string else value | tojson) + '\n</parameter>\n' -}}
{%- endfor -%}
{{- '</function>\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\n<think>\n' if add_generation_prompt -}}
"""

LLAMA = r"""
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.tool_calls -%}
{{- raise_exception('one call a turn') if message.tool_calls | length != 1 -}}
{%- set call = message.tool_calls[0].function -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + call.name + '", "parameters": ' -}}
{{- call.arguments | tojson + '}<|eot_id|>' -}}
{%- elif message.role == 'tool' -%}
{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + message.content | tojson + '<|eot_id|>' -}}
{%- else -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt -}}
"""

MISTRAL_LIST = r"""
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.tool_calls -%}
{{- '[TOOL_CALLS] [' -}}
{%- for call in message.tool_calls -%}
{{- raise_exception('an id has nine characters') if call.id | length != 9 -}}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + (']' if loop.last else ', ') -}}
{%- endfor -%}
{{- eos_token -}}
{%- elif message.role == 'tool' -%}
{{- raise_exception('an id has nine characters') if message.tool_call_id | length != 9 -}}
{{- '[TOOL_RESULTS] {"content": ' + message.content + ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' -}}
{%- elif message.role == 'assistant' -%}
{{- ' ' + message.content + eos_token -}}
{%- else -%}
{{- '[INST] ' + message.content + '[/INST]' -}}
{%- endif -%}
{%- endfor -%}
"""

MISTRAL_NAMED = r"""
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '[TOOL_RESULTS]' + message.tool_call_id + '[TOOL_CONTENT]' + message.content + '[/TOOL_RESULTS]' -}}
{%- elif message.role == 'assistant' -%}
{{- message.content -}}
{%- for call in message.tool_calls or [] -%}
{{- raise_exception('an id has nine characters') if call.id | length != 9 -}}
{{- '[TOOL_CALLS]' + call.function.name + '[CALL_ID]' + call.id + '[ARGS]' + call.function.arguments | tojson -}}
{%- endfor -%}
{{- eos_token -}}
{%- else -%}
{{- '[INST]' + message.content + '[/INST]' -}}
{%- endif -%}
{%- endfor -%}
"""

GEMMA = r"""
{%- macro written(value) -%}
{%- if value is string -%}{{ '<|"|>' + value + '<|"|>' }}
{%- elif value is mapping -%}
{ {%- for key, inner in value | dictsort -%}{{ key }}:{{ written(inner) }}{{ ',' if not loop.last }}{%- endfor -%} }
{%- else -%}{{ value | tojson }}
{%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|tool_response>response:' + message.name + '{value:' + written(message.content) + '}<tool_response|>' -}}
{%- else -%}
{%- set is_model = message.role == 'assistant' -%}
{%- set goes_on = is_model and not loop.first and loop.previtem.role == 'tool' -%}
{{- '<|turn>' + ('model' if is_model else message.role) + '\n' if not goes_on -}}
{{- '<|channel>thought\n' + message.reasoning_content + '\n<channel|>' if message.reasoning_content -}}
{%- for call in message.tool_calls or [] -%}
{{- '<|tool_call>call:' + call.function.name + written(call.function.arguments) + '<tool_call|>' -}}
{%- endfor -%}
{{- message.content -}}
{{- ('<|tool_response>' if loop.last else '') if message.tool_calls else '<turn|>\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|turn>model\n' if add_generation_prompt and messages[-1].role != 'tool' -}}
"""

FUNCTIONGEMMA = r"""
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<start_function_response>response:' + message.name + '{value:<escape>' + message.content -}}
{{- '<escape>}<end_function_response>' -}}
{%- else -%}
{%- set is_model = message.role == 'assistant' -%}
{%- set goes_on = is_model and not loop.first and loop.previtem.role == 'tool' -%}
{{- '<start_of_turn>' + ('model' if is_model else message.role) + '\n' if not goes_on -}}
{%- for call in message.tool_calls or [] -%}
{{- '<start_function_call>call:' + call.function.name + '{' -}}
{%- for key, value in call.function.arguments | dictsort -%}
{{- key + ':<escape>' + value + '<escape>' + (',' if not loop.last else '') -}}
{%- endfor -%}
{{- '}<end_function_call>' -}}
{%- endfor -%}
{{- message.content -}}
{{- ('<start_function_response>' if loop.last else '') if message.tool_calls else '<end_of_turn>\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<start_of_turn>model\n' if add_generation_prompt and messages[-1].role != 'tool' -}}
"""

GLM = r"""[gMASK]<sop>
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|observation|>' if loop.previtem.role != 'tool' -}}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|assistant|>\n<think>' + (message.reasoning_content or '') + '</think>' -}}
{{- '\n' + message.content if message.content -}}
{%- for call in message.tool_calls or [] -%}
{{- '\n<tool_call>' + call.function.name -}}
{%- for key, value in call.function.arguments | items -%}
{{- '\n<arg_key>' + key + '</arg_key>\n<arg_value>' + (value if value is string else value | tojson) -}}
{{- '</arg_value>' -}}
{%- endfor -%}
{{- '\n</tool_call>' -}}
{%- endfor -%}
{%- else -%}
{{- '<|' + message.role + '|>\n' + message.content -}}
{%- endif -%}
{%- endfor -%}
{{- '<|assistant|>' if add_generation_prompt -}}
"""

HARMONY_DROPS_THOUGHTS = r"""
{%- set talk = namespace(name='', is_answered=messages[-1].role == 'assistant' and not messages[-1].tool_calls) -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|start|>functions.' + talk.name + ' to=assistant<|channel|>commentary<|message|>' -}}
{{- message.content | tojson + '<|end|>' -}}
{%- elif message.role == 'assistant' -%}
{%- if message.thinking and (loop.last or not talk.is_answered) -%}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' -}}
{%- endif -%}
{%- if message.tool_calls -%}
{%- set talk.name = message.tool_calls[0].function.name -%}
{{- '<|start|>assistant to=functions.' + talk.name + '<|channel|>commentary json<|message|>' -}}
{{- message.tool_calls[0].function.arguments | tojson + '<|call|>' -}}
{%- else -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|return|>' -}}
{%- endif -%}
{%- else -%}
{{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|start|>assistant' if add_generation_prompt -}}
"""

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Qwen and GLM add these to the vocabulary without calling them special."""
HEADERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
INST = ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]", "[TOOL_RESULTS]", "[TOOL_CONTENT]")
TURNS = ("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|tool_call>", "<tool_call|>", "<|tool_response>")
GEMMA3 = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<start_function_call>", "<end_function_call>")
SPEAKERS = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
PAIRS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
CHANNELS = ("<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>")


@dataclass(frozen=True)
class Family:
    name: str
    template: str
    special: tuple[str, ...]
    eos: str
    tags: tuple[str, ...] = ()
    bos: str | None = None

    def tokenizer(
        self, template: str | None = None, *, texts: tuple[str, ...] = (), whole: tuple[str, ...] = ()
    ) -> Any:
        """One token a byte, beside the family's control tokens.

        Args:
            texts: the commonest pieces of these are tokens too.
            whole: texts that are one token each, so that chance can write them.
        """
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({byte: index for index, byte in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        if texts:
            tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet))
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self.special])
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*self.tags, *whole)])
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token=self.eos,
            bos_token=self.bos,
            pad_token=self.special[0],
            chat_template=(template or self.template).lstrip("\n"),
            clean_up_tokenization_spaces=False,
        )


FAMILIES = {
    family.name: family
    for family in (
        Family("hermes", HERMES, CHATML, "<|im_end|>", TAGS),
        Family("qwen-xml", QWEN_XML, CHATML, "<|im_end|>", TAGS),
        Family("llama", LLAMA, (*HEADERS, "<|eom_id|>", "<|python_tag|>"), "<|eot_id|>", bos="<|begin_of_text|>"),
        Family("mistral-list", MISTRAL_LIST, (*INST, "[/TOOL_RESULTS]"), "</s>", bos="<s>"),
        Family("mistral-named", MISTRAL_NAMED, (*INST, "[/TOOL_RESULTS]"), "</s>", bos="<s>"),
        Family("gemma", GEMMA, (*TURNS, "<tool_response|>", '<|"|>', "<|channel>", "<channel|>"), "<eos>", bos="<bos>"),
        Family(
            "functiongemma",
            FUNCTIONGEMMA,
            (*GEMMA3, "<start_function_response>", "<end_function_response>", "<escape>"),
            "<eos>",
            bos="<bos>",
        ),
        Family("glm", GLM, SPEAKERS, "<|endoftext|>", (*TAGS, *PAIRS)),
        Family("harmony", HARMONY_DROPS_THOUGHTS, (*CHANNELS, "<|call|>"), "<|return|>"),
    )
}


@cache
def make_chat(name: str) -> Any:
    """The chat format of a family; gpt-oss' with the training template."""
    from agentrl.chat import ChatFormat, load_template

    return ChatFormat(FAMILIES[name].tokenizer(load_template("gpt-oss") if name == "harmony" else None))


def ids_of(tokenizer: Any, *pieces: str) -> list[int]:
    """Ids by the vocabulary alone, no encoder involved: a piece that is a token is that token, any other its bytes."""
    vocabulary = tokenizer.get_vocab()
    control = {str(token.content) for token in tokenizer.added_tokens_decoder.values()}
    bytes_to_tokens = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ids: list[int] = []
    for piece in pieces:
        if piece in control:
            ids.append(vocabulary[piece])
        else:
            ids += [vocabulary[byte] for token, _ in bytes_to_tokens.pre_tokenize_str(piece) for byte in token]
    return ids
