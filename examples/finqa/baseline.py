"""Build the SFT baseline from nothing: `python -m examples.finqa.baseline` (what `make baseline` runs).

tokenizer and fresh model -> learn to copy -> read short, then whole episodes -> `agentrl sft` on demonstrations of
mixed quality -> measure -> model card. The last step's data is what a team would have: recordings of people of whom
some go straight to the answer and most search twice, list needlessly, read again, and take a wrong line now and then.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from agentrl.chat import BUDGET_SPENT, MALFORMED, announce_budget
from agentrl.config import load_config, load_sft_config
from agentrl.progress import QuietReporter
from agentrl.stages.sft import run_sft
from agentrl.training import train
from examples.finqa import lexicon
from examples.finqa.copying import learn_to_copy, wire_induction_heads
from examples.finqa.corpus import load_corpus
from examples.finqa.demonstrations import CLEAN, SYSTEM_PROMPT, Habits
from examples.finqa.generate import generate_tables
from examples.finqa.model_card import write_model_card
from examples.finqa.pretrain import copy_accuracy, episodes, pretrain
from examples.finqa.tokenizer import SPECIAL_TOKENS, build_tokenizer

WORK = Path("runs/finqa-baseline")
DATA = Path("examples/finqa/data")
DATA_SEED = 7
PROMPT = str(announce_budget([{"role": "system", "content": SYSTEM_PROMPT}], 10)[0]["content"])

CAREFUL_FRACTION = 0.25
CAREFUL = Habits(
    vague_search=0.1, second_search=0.05, list_report=0.1, read_again=0.05, read_neighbour=0.05,
    calculate_again=0.05, wrong_row=0.04, swapped_operands=0.02,
)  # fmt: skip
HASTY = Habits(
    vague_search=0.9, second_search=0.8, list_report=0.9, read_again=0.5, read_neighbour=0.5,
    calculate_again=0.8, wrong_page=0.05, wrong_row=0.12, swapped_operands=0.15,
)  # fmt: skip
ROUNDABOUT = replace(HASTY, wrong_page=0.0, wrong_row=0.0, swapped_operands=0.0)


def vocabulary() -> Iterable[str]:
    """Every text that the policy reads or writes, short of the figures."""
    yield from (PROMPT, BUDGET_SPENT, MALFORMED, "the answer is", "search query list path cat calculate expression")
    yield "no page found error division by zero more cut Unknown tool Known tools missing argument millions thousands"
    for statement in lexicon.STATEMENTS:
        yield from (*statement.titles, *(label for item in statement.items for label in item.labels))
    yield from (*lexicon.SEGMENTS, *lexicon.COMPANY_FIRST, *lexicon.COMPANY_SECOND, *lexicon.CLOSINGS)
    yield from (form for forms in lexicon.QUESTION_FORMS.values() for form in forms)
    yield from (*lexicon.OPENINGS, *lexicon.SEGMENT_OPENINGS)


def fresh_model(tokenizer: Any, seed: int) -> Qwen3ForCausalLM:
    """A Qwen3 of 2.2 M parameters, random but for the heads that copy."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=32,
        intermediate_size=512,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    wire_induction_heads(model)
    return model


def write_demonstrations(path: Path, split: str, count: int, seed: int) -> None:
    """Recordings on the reports of one split, careful and hasty ones mixed."""
    companies = {q.path.split("/")[0] for q in load_corpus(DATA).questions if q.split == split}
    tables = [table for table in generate_tables(DATA_SEED) if table.path.split("/")[0] in companies]
    rng = random.Random(seed)

    def habits() -> Habits:
        return CAREFUL if rng.random() < CAREFUL_FRACTION else HASTY

    source = episodes(tables, rng, PROMPT, with_search=True, habits=habits)
    lines = (json.dumps({"messages": next(source)}) + "\n" for _ in range(count))
    path.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--short-tokens", type=float, default=4e6, help="tokens of short episodes")
    parser.add_argument("--whole-tokens", type=float, default=3.5e6, help="tokens of whole episodes")
    parser.add_argument("--long-tokens", type=float, default=3.5e6, help="tokens of whole episodes with detours")
    parser.add_argument("--demonstrations", type=int, default=1000)
    parser.add_argument("--from-pretrained", action="store_true", help=f"take {WORK}/pretrained as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    started = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(vocabulary(), inner_words=(*lexicon.COMPANY_FIRST, *lexicon.COMPANY_SECOND))
    if not arguments.from_pretrained:
        model = fresh_model(tokenizer, arguments.seed)
        accuracy = learn_to_copy(model, n_special=len(SPECIAL_TOKENS), max_tokens=650_000)
        print(f"copying: {accuracy:.3f} of repeated tokens right", flush=True)
        for short, whole, habits in (
            (arguments.short_tokens, arguments.whole_tokens, CLEAN),
            (0.0, arguments.long_tokens, ROUNDABOUT),
        ):
            pretrain(
                model, tokenizer, prompt=PROMPT, short_tokens=short, whole_tokens=whole, habits=habits,
                seed=arguments.seed + (habits is ROUNDABOUT), report=lambda line: print(line, flush=True),
            )  # fmt: skip
        model.save_pretrained(WORK / "pretrained")
        tokenizer.save_pretrained(WORK / "pretrained")
    write_demonstrations(WORK / "demonstrations.jsonl", "train", arguments.demonstrations, arguments.seed)
    write_demonstrations(WORK / "demonstrations-validation.jsonl", "validation", 100, arguments.seed + 1)
    sft = run_sft(load_sft_config("configs/finqa-sft.yaml"), reporter=QuietReporter()).summary
    print(sft, flush=True)
    policy = Qwen3ForCausalLM.from_pretrained(sft["output"])
    copying = copy_accuracy(policy, tokenizer, prompt=PROMPT, seed=99)
    only_measure = ("ppo.steps=0", "evaluation.run_test=false", "workflow.baseline_digest=null")
    measured = train(load_config("configs/finqa.yaml", only_measure)).summary
    minutes = (time.monotonic() - started) / 60
    write_model_card(Path(sft["output"]), vars(arguments), sft, copying, measured["baseline"], minutes)


if __name__ == "__main__":
    main()
