from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from trl.trainer.dpo_config import DPOConfig as TRLConfig
from trl.trainer.dpo_trainer import DPOTrainer

from agentrl.config import DPORunConfig
from agentrl.errors import BaselineError, ConfigError
from agentrl.stages.course import StageResult
from agentrl.stages.dpo import run_dpo
from agentrl.stages.pair_file import vocabulary_digest
from agentrl.stages.trainers import SegmentCollator, SegmentTrainer, as_dataset
from tests.engine_fixtures import make_tokenizer, qwen3, seeded

LEFT, RIGHT, TOOL = 40, 41, 42
"""The token that chosen segments have, the one that rejected ones have, and one that only tools write."""


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    model = seeded(qwen3, len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def pair(draw: random.Random, *, tools: bool = True, tool_token: int = TOOL) -> dict[str, Any]:
    """Both sides call a tool and go on; the chosen one says LEFT first, the rejected one RIGHT."""
    sides = {}
    for side, first in (("chosen", LEFT), ("rejected", RIGHT)):
        pieces = [
            ([first, draw.randrange(1, 30)], 1),
            ([tool_token] * draw.randrange(1, 4), 0),
            ([draw.randrange(30)], 1),
        ]
        pieces = pieces if tools else [([first, draw.randrange(30), draw.randrange(30)], 1)]
        sides[f"{side}_ids"] = [token for tokens, _ in pieces for token in tokens]
        sides[f"{side}_mask"] = [mark for tokens, mark in pieces for _ in tokens]
    prefix = [draw.randrange(30) for _ in range(draw.randrange(3, 9))]
    return {"prefix_ids": prefix, "tokenizer": vocabulary_digest(make_tokenizer()), **sides}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(n: int, seed: int = 0, **options: Any) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [pair(draw, **options) for _ in range(n)]


def dpo_config(start: Path, train: Path, **options: Any) -> DPORunConfig:
    section = {"model": str(start), "output": str(start.parent / "out"), "train": str(train), "threads": 1, **options}
    return DPORunConfig.model_validate({"dpo": section})


def prefer(start: Path, train: Path, run_dir: str = "run", **options: Any) -> StageResult:
    return run_dpo(dpo_config(start, train, **options), run_dir=start.parent / run_dir)


def trainer(start: Path, rows: list[dict[str, Any]], folder: Path, *, beta: float = 0.1, **options: Any) -> Any:
    tokenizer = make_tokenizer()
    arguments = TRLConfig(
        output_dir=str(folder), beta=beta, max_length=None, precompute_ref_log_probs=True, use_cpu=True, bf16=False,
        report_to="none", per_device_train_batch_size=len(rows), gradient_checkpointing=False, **options,
    )  # fmt: skip
    data = [{"prompt_ids": row["prefix_ids"], **row} for row in rows]
    return SegmentTrainer(
        model=AutoModelForCausalLM.from_pretrained(start),
        args=arguments,
        data_collator=SegmentCollator(pad_token_id=tokenizer.pad_token_id),
        train_dataset=as_dataset(data),
        processing_class=tokenizer,
    )


def batch_of(made: Any) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = made.data_collator([made.train_dataset[i] for i in range(len(made.train_dataset))])
    return batch


def loss_and_gradient(made: Any, batch: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    made.model.zero_grad()
    loss = made.compute_loss(made.model, batch)
    loss.backward()
    return float(loss.detach()), {
        name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None
    }


def segment_sums(model: Any, row: dict[str, Any]) -> list[Tensor]:
    """Sums of log-probabilities of the action tokens of both sides, computed the plain way."""
    sums = []
    for side in ("chosen", "rejected"):
        ids = torch.tensor(row["prefix_ids"] + row[f"{side}_ids"])
        logprobs = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        marks = torch.tensor([0] * len(row["prefix_ids"]) + row[f"{side}_mask"])[1:]
        sums.append((logprobs * marks).sum())
    return sums


def test_policy_equal_to_reference_loses_ln_2(start: Path) -> None:
    made = trainer(start, pairs(6), start.parent / "t")
    assert loss_and_gradient(made, batch_of(made))[0] == pytest.approx(math.log(2), abs=1e-6)


def test_the_loss_is_minus_log_sigmoid_of_beta_times_the_difference(start: Path) -> None:
    """Beta 0.1 and segments that are 2 nats likelier and 1 nat less likely than under the reference."""
    made = trainer(start, pairs(1), start.parent / "t")
    batch = batch_of(made)
    batch["ref_chosen_logps"] -= 2
    batch["ref_rejected_logps"] += 1
    assert loss_and_gradient(made, batch)[0] == pytest.approx(0.554355, abs=1e-6)


def test_loss_and_gradient_are_those_of_action_tokens_behind_the_shared_prefix(start: Path) -> None:
    rows = pairs(3)
    made = trainer(start, rows, start.parent / "t", beta=0.7)
    with torch.no_grad():  # away from the reference, where the gradient of every pair would have the same weight
        for parameter in made.model.parameters():
            parameter.mul_(1.05)
    loss, gradient = loss_and_gradient(made, batch_of(made))
    model, reference = made.model, AutoModelForCausalLM.from_pretrained(start)
    model.zero_grad()
    margins = []
    for row in rows:
        chosen, rejected = segment_sums(model, row)
        ref_chosen, ref_rejected = segment_sums(reference, row)
        margins.append((chosen - ref_chosen.detach()) - (rejected - ref_rejected.detach()))
    plain = -torch.nn.functional.logsigmoid(0.7 * torch.stack(margins)).mean()
    plain.backward()
    assert loss == pytest.approx(float(plain.detach()), abs=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.allclose(gradient[name], parameter.grad, atol=1e-5, rtol=1e-4), name


def test_what_a_tool_said_is_no_target(start: Path) -> None:
    """Other tool tokens behind the last action change nothing at all; with the mask off they would."""
    rows = pairs(2)
    for row in rows:
        for side in ("chosen", "rejected"):
            row[f"{side}_ids"] = [*row[f"{side}_ids"], TOOL, TOOL]
            row[f"{side}_mask"] = [*row[f"{side}_mask"], 0, 0]
    found = []
    for token, mask in ((TOOL, 0), (TOOL + 1, 0), (TOOL, 1), (TOOL + 1, 1)):
        for row in rows:
            for side in ("chosen", "rejected"):
                row[f"{side}_ids"][-2:], row[f"{side}_mask"][-2:] = [token, token], [mask, mask]
        made = trainer(start, rows, start.parent / "t")
        found.append(loss_and_gradient(made, batch_of(made))[1])
    masked, other, counted, counted_other = found
    assert all(torch.equal(masked[name], other[name]) for name in masked)
    assert not all(torch.equal(counted[name], counted_other[name]) for name in masked)


def test_on_single_turns_the_loss_is_trls(start: Path) -> None:
    """trl renders and tokenizes text; ours is given the ids that this comes to, with every token an action."""
    tokenizer = make_tokenizer()
    texts = [("What?", "yes, it is", "no"), ("Why not then?", "no", "because")]
    turns = [
        {"prompt": [{"role": "user", "content": ask}], "chosen": [{"role": "assistant", "content": good}],
         "rejected": [{"role": "assistant", "content": bad}]}
        for ask, good, bad in texts
    ]  # fmt: skip
    torch.manual_seed(0)
    arguments = TRLConfig(
        output_dir=str(start.parent / "t"), beta=0.3, max_length=None, use_cpu=True, bf16=False, report_to="none",
        precompute_ref_log_probs=True, gradient_checkpointing=False, per_device_train_batch_size=2,
    )  # fmt: skip
    theirs = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(start), args=arguments, train_dataset=as_dataset(turns),
        processing_class=tokenizer,
    )  # fmt: skip
    rows = []
    for encoded in theirs.train_dataset:
        sides = {f"{side}_ids": encoded[f"{side}_ids"] for side in ("chosen", "rejected")}
        marks = {f"{side}_mask": [1] * len(encoded[f"{side}_ids"]) for side in ("chosen", "rejected")}
        rows.append({"prefix_ids": encoded["prompt_ids"], **sides, **marks})
    ours = trainer(start, rows, start.parent / "t", beta=0.3)
    for made in (ours, theirs):
        with torch.no_grad():
            for parameter in made.model.parameters():
                parameter.mul_(1.05)
    loss, gradient = loss_and_gradient(ours, batch_of(ours))
    expected, their_gradient = loss_and_gradient(theirs, batch_of(theirs))
    assert loss != pytest.approx(math.log(2), abs=1e-3)
    assert loss == pytest.approx(expected, abs=1e-6)
    assert all(torch.allclose(gradient[name], their_gradient[name], atol=1e-6) for name in gradient)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_the_margin_of_held_out_pairs_rises(start: Path, lora: dict[str, Any] | None) -> None:
    train = write(start.parent / "train.jsonl", pairs(24))
    held_out = write(start.parent / "held-out.jsonl", pairs(8, seed=1))
    options: dict[str, Any] = {"validation": str(held_out), "batch_size": 8, "epochs": 4, "lora": lora}
    result = prefer(start, train, **options, learning_rate=2e-2 if lora else 3e-3).summary
    assert result["validation_reward_margin_before"] == pytest.approx(0, abs=1e-5)
    assert result["validation_loss_before"] == pytest.approx(math.log(2), abs=1e-5)
    assert result["validation_reward_margin"] > 0.1
    assert result["validation_reward_accuracy"] > 0.7
    assert result["validation_loss"] < math.log(2)
    assert (result["pairs"], result["pairs_dropped"], result["validation_pairs"]) == (24, 0, 8)
    out = Path(result["output"])
    assert (out / "adapter" / "adapter_model.safetensors").is_file() == (lora is not None)
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (start, out))
    rows = pairs(8, seed=1)
    with torch.no_grad():
        margins = [
            (chosen - rejected) - (ref_chosen - ref_rejected)
            for (chosen, rejected), (ref_chosen, ref_rejected) in (
                (segment_sums(after, row), segment_sums(before, row)) for row in rows
            )
        ]
    mean = float(torch.stack(margins).mean()) * 0.1
    assert mean == pytest.approx(result["validation_reward_margin"], abs=1e-4)  # what was saved is what was measured


def test_more_than_a_twentieth_of_overlong_pairs_is_refused(start: Path) -> None:
    rows = pairs(40)
    for row in rows[:2]:
        row["prefix_ids"] = row["prefix_ids"] * 20
    train = write(start.parent / "train.jsonl", rows)
    result = prefer(start, train, max_length=50, epochs=0.1).summary
    assert (result["pairs"], result["pairs_dropped"]) == (38, 2)
    rows[2]["prefix_ids"] = rows[2]["prefix_ids"] * 20
    write(train, rows)
    with pytest.raises(ConfigError, match=r"3 of 40 pairs \(7\.5%\) are longer than dpo\.max_length \(50 tokens"):
        prefer(start, train, "other", max_length=50)
    assert not (start.parent / "other").exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"chosen_mask": [1]}, "chosen_mask has to mark sampled tokens of chosen_ids, one 0 or 1 a token"),
        ({"rejected_ids": [5], "rejected_mask": [0]}, "rejected_mask has to mark"),
        ({"tokenizer": "sha256:" + "0" * 64}, "sampled with the tokenizer sha256:0000"),
        ({"prefix_ids": [3, 100000]}, "ids are whole numbers from 0 to"),
        ({"prefix_ids": []}, "prefix_ids are empty"),
        ({"chosen_ids": None}, "TypeError"),
    ],
)
def test_a_malformed_pair_is_named(start: Path, change: dict[str, Any], found: str) -> None:
    first, second = pairs(2)
    train = write(start.parent / "train.jsonl", [first, {**second, **change}])
    with pytest.raises(ConfigError) as caught:
        prefer(start, train)
    assert str(caught.value).startswith(f"{train}:2: found no pair (")
    assert found in str(caught.value)


def test_inputs_that_cannot_be_used_are_refused_before_anything_is_written(start: Path) -> None:
    train = write(start.parent / "train.jsonl", [])
    with pytest.raises(ConfigError, match="holds no pair"):
        prefer(start, train)
    with pytest.raises(ConfigError, match="make it with `agentrl pairs RUN_DIR --output"):
        prefer(start, start.parent / "nothing.jsonl")
    write(train, pairs(2))
    with pytest.raises(ConfigError, match=r"dpo\.lora\.target_modules: found the output layer"):
        prefer(start, train, lora={"target_modules": ["lm_head", "q_proj"]})
    with pytest.raises(BaselineError, match=r"dpo\.lora: the baseline cannot have such adapters"):
        prefer(start, train, lora={"target_modules": ["q_projection"]})
    with pytest.raises(ConfigError, match=r"dpo\.output: .*start is dpo\.model too"):
        prefer(start, train, output=str(start))
    with pytest.raises(ConfigError, match=r"dpo\.output: .* is there, and is no checkpoint"):
        prefer(start, train, output=str(start.parent))
    assert not (start.parent / "run").exists()
