"""Training on tiny models: what trl computes, what is learned, what is refused."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import DataCollatorForPreference, RewardTrainer

from agentrl.config import RewardModelRunConfig
from agentrl.errors import ConfigError
from agentrl.reward_model import calibration as cal
from agentrl.reward_model.comparisons import compare
from agentrl.reward_model.data_file import write_examples
from agentrl.reward_model.start import load_classifier, padding_of
from agentrl.reward_model.trainers import ComparisonTrainer, ScoreCollator, ScoreTrainer
from agentrl.reward_model.training import read_report, run_reward_model
from agentrl.stages.course import StageResult
from agentrl.stages.trainers import as_dataset
from tests.engine_fixtures import make_tokenizer, qwen3
from tests.reward_model.examples import episode
from tests.stages.test_course import StopAfter


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("rm") / "start"
    tokenizer = make_tokenizer()
    qwen3(len(tokenizer), eos_token_id=tokenizer.eos_token_id, attention_dropout=0.1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answers(split: str, n: int, *, long: int = 0) -> list[Any]:
    """Of every task an episode that says yes, which is right, and one that says no."""
    draw = random.Random(split)
    found = []
    for index in range(n):
        asked = "".join(draw.choices("abcdefgh", k=8))
        for said, score in (("yes", 1.0), ("no", 0.0)):
            padding = "z" * (60 if index < long else draw.randrange(3))
            name = f"{split}{index}-{said}"
            tokens = draw.randrange(20, 40)
            found.append(episode(name, f"{split}{index}", score=score, said=padding + said, asked=asked, tokens=tokens))
    return found


def write(folder: Path, split: str, episodes: list[Any]) -> Path:
    path = folder / f"{split}.jsonl"
    write_examples(path, episodes, compare(episodes, by="outcome").comparisons)
    return path


def run(start: Path, folder: Path, *, run_dir: str = "run", n: int = 32, long: int = 0, **options: Any) -> StageResult:
    data = {split: str(write(folder, split, answers(split, n, long=long))) for split in ("train", "validation")}
    place = {key: options.pop(key) for key in ("resume", "reporter") if key in options}
    section = {
        "model": str(start), "output": str(folder / "out"), **data, "batch_size": 8, "epochs": 3, "threads": 1,
        "learning_rate": 3e-3, "gate": {"min_comparisons": 20}, **options,
    }  # fmt: skip
    config = RewardModelRunConfig.model_validate({"reward_model": section})
    return run_reward_model(config, run_dir=folder / run_dir, **place)


# The loss is trl's


def arguments(folder: Path, **options: Any) -> RewardConfig:
    return RewardConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
        max_length=None, **options,
    )  # fmt: skip


ROWS = [
    {"chosen_ids": [5, 6, 7, 8], "rejected_ids": [9, 10], "margin": 0.5},
    {"chosen_ids": [11], "rejected_ids": [12, 13, 14, 15, 16], "margin": 0.0},
]


def trainer(kind: Any, start: Path, folder: Path, rows: list[dict[str, Any]] = ROWS, **options: Any) -> Any:
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1, pad_token_id=tokenizer.pad_token_id)
    with torch.no_grad():
        model.score.weight.normal_()
    collate = ScoreCollator if kind is ScoreTrainer else DataCollatorForPreference
    return kind(
        model=model, args=arguments(folder, **options), data_collator=collate(pad_token_id=tokenizer.pad_token_id),
        train_dataset=as_dataset(rows), processing_class=tokenizer,
    )  # fmt: skip


class Says:
    """A model whose rewards are these."""

    def __init__(self, *rewards: float) -> None:
        self.logits = torch.tensor(rewards).unsqueeze(-1).requires_grad_()

    def __call__(self, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logits)


@pytest.fixture(scope="module")
def ours(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trainer(ComparisonTrainer, start, tmp_path_factory.mktemp("ours"))


def loss_of(ours: Any, model: Says, **inputs: Any) -> Tensor:
    n = len(model.logits)
    found: Tensor = ours.compute_loss(model, {"attention_mask": torch.ones(n, 1), **inputs})
    return found


def test_equal_rewards_cost_ln_2_and_pull_by_a_half(ours: Any) -> None:
    model = Says(0.3, 0.3)
    loss = loss_of(ours, model)
    assert loss.item() == pytest.approx(0.693147, abs=1e-6)
    loss.backward()
    assert model.logits.grad is not None
    assert model.logits.grad.flatten().tolist() == pytest.approx([-0.5, 0.5])


def test_a_gap_of_ln_3(ours: Any) -> None:
    assert loss_of(ours, Says(math.log(3), 0.0)).item() == pytest.approx(0.287682, abs=1e-6)


def test_four_margins(ours: Any) -> None:
    assert loss_of(ours, Says(2.0, -0.5, 0.1, 1.0, 0, 0, 0, 0)).item() == pytest.approx(0.514666, abs=1e-6)


def test_a_margin_shifts_the_gap(ours: Any) -> None:
    shifted = loss_of(ours, Says(2.0, 0.0), margin=torch.tensor([0.75])).item()
    assert shifted == pytest.approx(loss_of(ours, Says(1.25, 0.0)).item())


def test_centring_costs_the_square_of_the_sum(start: Path, tmp_path: Path) -> None:
    centred = trainer(ComparisonTrainer, start, tmp_path, center_rewards_coefficient=0.01)
    assert loss_of(centred, Says(1.0, 1.0)).item() == pytest.approx(math.log(2) + 0.04, abs=1e-6)


def test_the_loss_and_its_gradient_are_trls(start: Path, tmp_path: Path) -> None:
    found = []
    for kind in (ComparisonTrainer, RewardTrainer):
        built = trainer(kind, start, tmp_path / kind.__name__, center_rewards_coefficient=0.01)
        built.model.train()
        batch = built.data_collator(ROWS)
        loss = built.compute_loss(built.model, dict(batch))
        loss.backward()
        found.append((loss.item(), [p.grad.clone() for p in built.model.parameters() if p.grad is not None]))
    (loss, gradient), (theirs, their_gradient) = found
    assert loss == theirs
    assert all(torch.equal(a, b) for a, b in zip(gradient, their_gradient, strict=True))


def test_scores_cost_cross_entropy(start: Path, tmp_path: Path) -> None:
    rows = [{"input_ids": [5, 6, 7], "target": 1.0}, {"input_ids": [8], "target": 0.25}]
    built = trainer(ScoreTrainer, start, tmp_path, rows)
    batch = built.data_collator(rows)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    rewards = built.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    expected = binary_cross_entropy_with_logits(rewards, torch.tensor([1.0, 0.25]))
    assert built.compute_loss(built.model, batch).item() == pytest.approx(expected.item())


# What is learned


class Bag(PreTrainedModel):
    """The reward is the sum of the tokens' utilities."""

    config_class = PretrainedConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.utility = torch.nn.Embedding(20, 1)
        self.utility.weight.data.zero_()

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **_: Any) -> Any:
        values = self.utility(input_ids).squeeze(-1) * attention_mask
        return SequenceClassifierOutput(logits=values.sum(-1, keepdim=True))


def test_linear_utilities_are_recovered_and_decide_at_the_bayes_rate(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    utility = draw.normal(0, 1, 20)
    utility[0] = 0  # padding

    def drawn(n: int) -> tuple[list[dict[str, Any]], np.ndarray]:
        rows, margins = [], []
        for _ in range(n):
            one, other = draw.integers(1, 20, 8), draw.integers(1, 20, 8)
            gap = utility[one].sum() - utility[other].sum()
            is_one = draw.random() < 1 / (1 + math.exp(-gap))
            chosen, rejected = (one, other) if is_one else (other, one)
            rows.append({"chosen_ids": chosen.tolist(), "rejected_ids": rejected.tolist()})
            margins.append(abs(gap))
        return rows, np.array(margins)

    rows, _ = drawn(3000)
    held_out, margins = drawn(3000)
    model = Bag(PretrainedConfig(num_labels=1, pad_token_id=0))
    options = {"learning_rate": 0.05, "per_device_train_batch_size": 100, "num_train_epochs": 2, "disable_tqdm": True}
    built = ComparisonTrainer(
        model=model, args=arguments(tmp_path, save_strategy="no", logging_strategy="no", **options),
        data_collator=DataCollatorForPreference(pad_token_id=0), train_dataset=as_dataset(rows),
        processing_class=make_tokenizer(),
    )  # fmt: skip
    built.place(order=[*range(3000)], keep_last=1)
    built.train()
    learned = model.utility.weight.detach().squeeze(-1).numpy()
    assert np.corrcoef(learned[1:], utility[1:])[0, 1] > 0.98
    gaps = [learned[row["chosen_ids"]].sum() - learned[row["rejected_ids"]].sum() for row in held_out]
    bayes = cal.sigmoid(margins).mean()
    assert cal.accuracy(gaps) == pytest.approx(bayes, abs=0.025)


@pytest.mark.parametrize("objective", ["pairs", "scores"])
def test_a_preference_is_learned_and_its_folder_says_so(start: Path, tmp_path: Path, objective: str) -> None:
    result = run(start, tmp_path, objective=objective)
    assert result.summary["accuracy"] == 1
    assert result.summary["gate_failures"] == []
    report = read_report(tmp_path / "out")
    assert report["comparisons"]["n"] == 32
    card = json.loads((tmp_path / "out" / "reward_model.json").read_text())
    figures = card["calibration"]
    assert figures["gain"] * figures["mean"] + figures["bias"] == pytest.approx(0)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "reliability.svg", "report.html", "report.md", "digests.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert "gate lets it grade" in (tmp_path / "out" / "report.md").read_text()
    first = json.loads((result.run_dir / "metrics.jsonl").read_text().splitlines()[0])
    assert first["validation_loss"] == pytest.approx(math.log(2), abs=1e-6)  # nothing is preferred before step 1


def test_three_steps_and_the_rest_are_all(start: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1.5, "lora": {"rank": 4, "alpha": 8}, "checkpoint": {"every_steps": 2}}
    whole = run(start, tmp_path, run_dir="whole", **options).summary
    expected = load_file(tmp_path / "out" / "model.safetensors")
    half = run(start, tmp_path, run_dir="halves", reporter=StopAfter(3), **options)
    assert (half.stopped_by, half.summary["steps"]) == ("interrupted", 3)
    torch.manual_seed(999)
    rest = run(start, tmp_path, run_dir="halves", resume=True, **options).summary
    assert rest["weights"] == whole["weights"]
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert found["score.weight"].abs().sum() > 0  # an adapter trains the output as well


# What is refused


def test_too_many_long_episodes_are_refused_and_few_are_counted(start: Path, tmp_path: Path) -> None:
    result = run(start, tmp_path, n=40, long=2, max_length=80, epochs=0.1)
    assert (result.summary["examples"], result.summary["examples_dropped"]) == (38, 2)
    assert read_report(tmp_path / "out")["not_scored"] == 4
    with pytest.raises(ConfigError, match=r"train.jsonl: 3 of 40 examples \(7.5%\) are longer than .*allowed: 5%"):
        run(start, tmp_path, run_dir="other", n=40, long=3, max_length=80)


def test_a_task_on_both_sides_is_refused(start: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path, split, answers("same", 4))
    section = {"model": str(start), "output": str(tmp_path / "out")}
    section |= {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation")}
    with pytest.raises(ConfigError, match=r"the hold-out shares with reward_model\.train 8 episodes"):
        run_reward_model(RewardModelRunConfig.model_validate({"reward_model": section}), run_dir=tmp_path / "run")


def test_padding_is_a_token_that_ends_no_episode(start: Path) -> None:
    tokenizer = make_tokenizer()
    assert padding_of(tokenizer) == "<|pad|>"
    tokenizer.pad_token = tokenizer.eos_token
    assert padding_of(tokenizer) not in (tokenizer.eos_token, "<|im_start|>")


def test_dropout_is_off_and_the_output_begins_at_zero(start: Path, tmp_path: Path) -> None:
    section = {"model": str(start), "output": str(tmp_path / "o"), "train": "a", "validation": "b"}
    _, model = load_classifier(RewardModelRunConfig.model_validate({"reward_model": section}))
    assert model.score.weight.abs().sum() == 0
    assert all(getattr(module, "attention_dropout", 0) == 0 for module in model.modules())
    assert model.dtype == torch.float32
