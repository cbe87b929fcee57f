"""configs/finqa-qwen3.yaml as it is, but for the size of the model: LoRA here, sampling on a real vLLM server."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from agentrl.config import load_config
from agentrl.training import train
from tests.chat.families import QWEN3_DROPS_THOUGHTS
from tests.engine_fixtures import qwen3
from tests.examples.test_finqa_large import (
    OVERRIDES,
    QWEN_ANSWER,
    QWEN_CALL,
    ROOT,
    save_baseline,
    tiny_tokenizer,
    write_published,
)
from tests.vllm.server import NO_SERVER, PROCESSED, PYTHON, Server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PYTHON, reason=NO_SERVER)]
SHAPE = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}  # vLLM's kernels' least


def test_the_qwen3_config_trains_on_a_real_server(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("hermes", QWEN3_DROPS_THOUGHTS, (QWEN_CALL, QWEN_ANSWER))
    save_baseline(tmp_path / "baseline", tokenizer, partial(qwen3, **SHAPE), [QWEN_CALL, QWEN_ANSWER, "<|im_end|>"])
    (tmp_path / "data").mkdir()
    flags = ("--max-model-len", "3000", "--max-lora-rank", "32", *PROCESSED)
    server = Server(tmp_path / "baseline", tmp_path / "server.log", *flags)
    try:
        server.wait()
        places = (f"workflow.baseline={tmp_path / 'baseline'}", f"data.path={write_published(tmp_path / 'data')}")
        own = [override for override in OVERRIDES if not override.startswith("inference.")]
        config = load_config(ROOT / "configs" / "finqa-qwen3.yaml", [*own, *places, f"inference.url={server.url}"])
        result = train(config, run_dir=tmp_path / "run")
    finally:
        server.kill()
    assert result.summary["stopped_by"] is None
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "policy_loss" in row]
    assert [row["step"] for row in steps] == [1, 2]
    for row in steps:
        assert row["mismatch_abs_logprob_max"] < 1e-4
        assert row["infra_failed_fraction"] == 0
        assert row["tool_calls"] > 0
        assert row["reasoning_tokens"] > 0
