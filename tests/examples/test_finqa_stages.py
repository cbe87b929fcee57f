"""The configs of the stages on trl, on a few examples: they start from the committed baseline and leave another one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from agentrl.config import load_dpo_config, load_sft_config
from agentrl.stages.dpo import run_dpo
from agentrl.stages.pair_file import vocabulary_digest, write_pairs
from agentrl.stages.pairs import Pair, Segment
from agentrl.stages.sft import run_sft
from examples.finqa.baseline import write_demonstrations

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "examples/finqa/baseline"


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_finqa_sft(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "train.jsonl", "train", 8, seed=1)
    overrides = [
        f"sft.model={BASELINE}", f"sft.output={tmp_path / 'out'}", f"sft.train={tmp_path / 'train.jsonl'}",
        f"sft.validation={tmp_path / 'train.jsonl'}", "sft.batch_size=4", "sft.threads=1",
    ]  # fmt: skip
    result = run_sft(load_sft_config("configs/finqa-sft.yaml", overrides), run_dir=tmp_path / "run").summary
    assert (result["steps"], result["conversations"]) == (2, 8)
    assert 0 < result["validation_loss"] < 1  # it has seen such conversations
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_finqa_dpo(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASELINE)
    draw = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(draw.randrange(len(tokenizer)) for _ in range(n))

    mask = (True,) * 5 + (False,) * 20 + (True,) * 5
    pairs = [
        Pair("t", "a", "b", 1.0, 0.0, 1, ids(40), Segment(ids(30), mask), Segment(ids(30), mask)) for _ in range(8)
    ]
    for name in ("train", "validation"):
        write_pairs(tmp_path / f"{name}.jsonl", pairs, vocabulary_digest(tokenizer))
    overrides = [
        f"dpo.output={tmp_path / 'out'}", f"dpo.train={tmp_path / 'train.jsonl'}",
        f"dpo.validation={tmp_path / 'validation.jsonl'}", "dpo.batch_size=4", "dpo.threads=1",
        "dpo.learning_rate=5.0e-4",
    ]  # fmt: skip
    result = run_dpo(load_dpo_config("configs/finqa-dpo.yaml", overrides), run_dir=tmp_path / "run").summary
    assert (result["steps"], result["pairs"]) == (2, 8)
    assert result["validation_reward_margin"] > 0.01 > result["validation_reward_margin_before"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
