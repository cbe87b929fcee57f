"""The configs of the large models, run with tiny ones of the same architecture, tokenizer family and tool syntax.

What is put in the place of the hub's weights has random weights and a bias towards one tool call and one answer; the
pages are six in the published form; the server, the limits, LoRA and the templates are those of the configs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GptOssConfig, GptOssForCausalLM

from agentrl.chat import BUDGET_SPENT, MALFORMED, ChatFormat, load_template
from agentrl.config import load_config
from agentrl.errors import BaselineError
from agentrl.runs import read_rollouts
from agentrl.tools.toolbox import Toolbox
from agentrl.training import TrainingResult, train
from tests.chat.families import FAMILIES, QWEN3_DROPS_THOUGHTS
from tests.engine_fixtures import SIZES, qwen3

ROOT = Path(__file__).parents[2]
QUERY = '{"query": "acme net sales 2015"}'
QWEN_CALL = f'<think>\nlook\n</think>\n\n<tool_call>\n{{"name": "search", "arguments": {QUERY}}}\n</tool_call>'
QWEN_ANSWER = "<think>\ndone\n</think>\n\nthe answer is 380"
GPT_CALL = (
    "<|channel|>analysis<|message|>look<|end|><|start|>assistant"
    f"<|channel|>commentary to=functions.search <|constrain|>json<|message|>{QUERY}"
)
GPT_ANSWER = "<|channel|>final<|message|>the answer is 380"
OVERRIDES = (
    *("policy.device=cpu", "policy.dtype=float32", "policy.threads=1", "inference.kind=in_process"),
    *("inference.kv_cache_bytes=50000000", "rollout.max_turn_tokens=6", "rollout.max_context_tokens=3000"),
    *("rollout.max_tool_calls=2", "ppo.steps=2", "ppo.tasks_per_step=2", "ppo.samples_per_task=4"),
    *("ppo.critic_warmup_steps=1", "ppo.learning_rate=1.0e-3", "evaluation.samples_per_item=2"),
)
LIMITS = {"max_position_embeddings": 4096, "bos_token_id": None}


def gpt_oss(vocab_size: int, **options: Any) -> Any:
    sizes = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 32, "sliding_window": 32}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False}
    return GptOssForCausalLM(GptOssConfig(vocab_size=vocab_size, **{**sizes, **experts, **options}))


def save_baseline(folder: Path, tokenizer: Any, make: Any, favoured: list[str]) -> None:
    """A model that draws from `favoured`, from the first one most often."""
    torch.manual_seed(5)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = make(len(tokenizer), **LIMITS, **ends)
    with torch.no_grad():  # a constant in every hidden state is a bias of every logit
        model.model.embed_tokens.weight[:, 0] = 5.0
        model.lm_head.weight[:, 0] = -2.0
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(favoured), 0] = 0.0
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(favoured[:1]), 0] = 0.15
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_published(folder: Path) -> Path:
    """Six pages as FinQA's authors publish them, two a split."""
    for split, company, sales in (("train", "acme", 380.0), ("dev", "bolt", 381.0), ("test", "cone", 382.0)):
        entries = [
            {
                "filename": f"{company}/2015/page_{number}.pdf",
                "pre_text": [f"{company} net sales for fiscal 2015 ( in thousands )"],
                "post_text": ["."],
                "table": [["", "2015", "2014"], ["net sales", str(sales), "300.0"]],
                "id": f"{company}-{number}",
                "qa": {"question": f"net sales of {company} in 2015 ?", "answer": str(sales), "exe_ans": sales},
            }
            for number in range(2)
        ]
        (folder / f"{split}.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published"))


def tiny_tokenizer(family: str, template: str | None, whole: tuple[str, ...]) -> Any:
    """The commonest pieces of the configs are tokens, so that prompts are short; each of `whole` is one."""
    read = tuple(path.read_text("utf-8") for path in sorted((ROOT / "configs").glob("finqa-*.yaml")))
    return FAMILIES[family].tokenizer(template, texts=read, whole=whole)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As the hub's folders are: with the templates that rewrite earlier turns."""
    folders = {}
    for name, family, template, whole, make in (
        ("finqa-qwen3", "hermes", QWEN3_DROPS_THOUGHTS, (QWEN_CALL, QWEN_ANSWER), qwen3),
        ("finqa-gpt-oss", "harmony", None, (GPT_CALL, GPT_ANSWER), gpt_oss),
    ):
        tokenizer = tiny_tokenizer(family, template, whole)
        ends = ["<|im_end|>"] if family == "hermes" else ["<|call|>", "<|return|>"]
        folders[name] = tmp_path_factory.mktemp(name) / "baseline"
        save_baseline(folders[name], tokenizer, make, [*whole, *ends])
    return folders


def run(name: str, models: dict[str, Path], published: Path, folder: Path, *overrides: str) -> TrainingResult:
    places = (f"workflow.baseline={models[name]}", f"data.path={published}")
    config = load_config(ROOT / "configs" / f"{name}.yaml", [*OVERRIDES, *places, *overrides])
    return train(config, run_dir=folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finqa-qwen3", "finqa-gpt-oss"])
def test_the_config_trains_a_tiny_model(name: str, models: dict[str, Path], published: Path, tmp_path: Path) -> None:
    result = run(name, models, published, tmp_path / "run")
    assert result.summary["stopped_by"] is None
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in metrics if "policy_loss" in row]
    assert [row["step"] for row in steps] == [1, 2]
    for row in steps:
        assert row["mismatch_abs_logprob_max"] < 1e-5  # the engine samples what the trainer computes, sinks included
        assert row["infra_failed_fraction"] == 0
        assert row["grad_norm"] > 0
        assert row["reasoning_tokens"] > 0

    # the server's tools were called in the family's syntax, and its pages came back
    traces = [trace for step in (1, 2) for trace in read_rollouts(tmp_path / "run", f"train-{step:06d}")]
    outputs = [result["output"] for trace in traces for turn in trace["turns"] for result in turn["tool_results"]]
    found = [output for output in outputs if "acme/2015/page_0" in output]
    assert found
    assert {*outputs} - {*found} <= {MALFORMED, BUDGET_SPENT}
    assert any(trace["grade"]["score"] == 0.0 for trace in traces)

    # adapters have moved, the base has not, and the checkpoint carries the template that it was trained with
    stored = tmp_path / "run" / "checkpoints" / "step-000002" / "policy"
    adapter = load_file(stored / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for key, tensor in adapter.items() if "lora_B" in key)
    assert (stored / "chat_template.jinja").read_text() == load_template(name.removeprefix("finqa-"))


@pytest.mark.parametrize("name", ["finqa-qwen3", "finqa-gpt-oss"])
def test_the_models_own_template_is_refused(
    name: str, models: dict[str, Path], published: Path, tmp_path: Path
) -> None:
    with pytest.raises(BaselineError, match="the chat template rewrites earlier turns"):
        run(name, models, published, tmp_path / "run", "workflow.chat_template=null")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["finqa-qwen3", "finqa-gpt-oss"])
def test_the_prompt_describes_the_tools(name: str, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINQA_TOKEN", "secret")
    config = load_config(ROOT / "configs" / f"{name}.yaml", [f"workflow.baseline={models[name]}", *OVERRIDES])
    assert config.tools is not None
    toolbox = Toolbox.from_config(config.tools, "http://127.0.0.1:1")
    assert config.workflow.chat_template is not None
    tokenizer = FAMILIES["hermes" if "qwen" in name else "harmony"].tokenizer(
        load_template(config.workflow.chat_template)
    )
    text = tokenizer.decode(
        ChatFormat(tokenizer).prompt_ids([{"role": "user", "content": "x"}], tools=toolbox.descriptions)
    )
    for part in ("search", "list", "cat", "calculate", "Company, year and what to look for."):
        assert part in text
