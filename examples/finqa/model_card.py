"""The README.md beside the baseline's weights: where it comes from and what it can do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = """---
license: apache-2.0
pipeline_tag: text-generation
---

# finqa-baseline

The SFT baseline of agentrl's FinQA example: a Qwen3 of {parameters:.1f} M parameters with its own tokenizer, made on
two CPU cores from nothing. It searches 2,800 synthetic report pages, reads, calculates and answers. It is decent, and
wasteful on purpose: its demonstrations mix careful and hasty recordings, which is what reinforcement improves.

| | |
| --- | --- |
| made by | `make baseline` (`{command}`), {minutes:.0f} minutes |
| seed | {seed} |
| pre-training, M tokens | {copying} repeats; episodes: {short:.1f} short, {whole:.1f} whole, {long:.1f} long |
| fine-tuning | trl's SFTTrainer, {demonstrations} demonstrations, {sft_steps} steps, loss on assistant tokens |
| data digest | `sha256:{data_digest}` (examples/finqa/data) |
| checkpoint digest | `{digest}` |

Measured at temperature 1:

| figure | value |
| --- | --- |
| validation reward, {n_items} questions x {samples} samples | {reward:.3f} |
| success rate | {success_rate:.3f} |
| tool calls per episode | {tool_calls:.2f} |
| output tokens per episode | {output_tokens:.0f} |
| consecutive calls of the same tool per episode | {same_tool_repeats:.2f} |
| argument-copy accuracy (tokens said after reading the page, likeliest token right) | {copy_tokens:.3f} |
| episodes where all of them are right | {copy_calls:.3f} |

Not for real reports: it knows the words of the generator and few others.
"""


def write_model_card(
    folder: Path,
    arguments: Mapping[str, Any],
    sft: Mapping[str, Any],
    copying: Mapping[str, float],
    measured: Mapping[str, Any],
    minutes: float,
) -> None:
    """Write README.md.

    Args:
        arguments: of examples.finqa.baseline.
        sft: the summary of run_sft.
        copying: what copy_accuracy returned.
        measured: the baseline's entry of summary.json.
        minutes: wall time of the whole build.
    """
    data = Path("examples/finqa/data")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(data.glob("*.jsonl")))).hexdigest()
    card = CARD.format(
        parameters=sft["parameters"] / 1e6,
        command="python -m examples.finqa.baseline",
        minutes=minutes,
        seed=arguments["seed"],
        copying="0.65",
        short=arguments["short_tokens"] / 1e6,
        whole=arguments["whole_tokens"] / 1e6,
        long=arguments["long_tokens"] / 1e6,
        demonstrations=arguments["demonstrations"],
        sft_steps=sft["steps"],
        data_digest=digest,
        digest=sft["digest"],
        n_items=measured["n_items"],
        samples=measured["samples_per_item"],
        reward=measured["reward"],
        success_rate=measured["success_rate"],
        tool_calls=measured["tool_calls"],
        output_tokens=measured["output_tokens"],
        same_tool_repeats=measured["same_tool_repeats"],
        copy_tokens=copying["tokens"],
        copy_calls=copying["calls"],
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
