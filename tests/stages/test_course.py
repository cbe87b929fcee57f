"""What all stages do in their run directory, tried on both."""

from __future__ import annotations

import json
import math
import pkgutil
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from agentrl.config import to_yaml
from agentrl.disk import file_digest
from agentrl.errors import CheckpointError, ConfigError, TrainingStopped
from agentrl.interrupts import noting_signals
from agentrl.progress import SilentReporter
from agentrl.stages.course import StageResult
from agentrl.stages.dpo import run_dpo
from agentrl.stages.order import training_order
from agentrl.stages.sft import run_sft
from tests.engine_fixtures import make_tokenizer, qwen3
from tests.stages.test_dpo import dpo_config, pairs, write
from tests.stages.test_sft import conversation, sft_config

LORA = {"rank": 4, "alpha": 8}


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    tokenizer = make_tokenizer()
    # with dropout, so that random generators which are not put back show
    model = qwen3(len(tokenizer), eos_token_id=tokenizer.eos_token_id, attention_dropout=0.1)
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    draw = random.Random(0)
    write(tmp_path / "sft.jsonl", [conversation("".join(draw.choices("abc", k=draw.randrange(9)))) for _ in range(12)])
    write(tmp_path / "dpo.jsonl", pairs(12))
    return tmp_path / "start"


def stage(kind: str, start: Path, run_dir: str = "run", *, reporter: Any = None, **options: Any) -> StageResult:
    """Ten steps of four examples, three passes and a bit."""
    folder, resume, allow_change = start.parent, options.pop("resume", False), options.pop("allow_change", ())
    config = {"sft": sft_config, "dpo": dpo_config}[kind](
        start, folder / f"{kind}.jsonl", **{"batch_size": 4, "epochs": 3.3, "learning_rate": 1e-2, **options}
    )
    run: Any = {"sft": run_sft, "dpo": run_dpo}[kind]
    place = {"run_dir": folder / run_dir, "resume": resume, "allow_change": allow_change}
    result: StageResult = run(config, **place, reporter=reporter)
    return result


class StopAfter(SilentReporter):
    """Somebody presses Ctrl-C when this step is told."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.at, self.number, self.messages = step, number, list[str]()

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None:
        del total, metrics
        if step == self.at:
            signal.raise_signal(self.number)

    def message(self, text: str) -> None:
        self.messages.append(text)


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds_step"} for row in rows]


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_five_steps_and_five_more_are_ten(start: Path, kind: str, lora: dict[str, Any] | None) -> None:
    options: dict[str, Any] = {"lora": lora, "validation": str(start.parent / f"{kind}.jsonl")}
    options["checkpoint"] = {"every_steps": 4}
    out = start.parent / "out" / "model.safetensors"
    whole = stage(kind, start, "whole", **options).summary
    expected = file_digest(out)
    out.unlink()
    stop = StopAfter(5)
    half = stage(kind, start, "halves", reporter=stop, **options)
    assert (half.stopped_by, half.summary["steps"], "output" in half.summary) == ("interrupted", 5, False)
    assert stop.messages[-1] == "stopping after this step; once more stops at once, without saving it"
    assert not out.exists()
    torch.manual_seed(999)  # as a new process would
    random.seed(999)
    rest = stage(kind, start, "halves", resume=True, **options)
    assert (rest.stopped_by, rest.summary["steps"], whole["steps"]) == (None, 10, 10)
    assert file_digest(out) == expected
    assert metrics(start.parent / "halves") == metrics(start.parent / "whole")
    assert {**rest.summary, "wall_seconds": 0} == {**whole, "wall_seconds": 0}


def test_a_new_process_goes_on_to_the_same_weights(start: Path) -> None:
    whole = stage("sft", start, "whole", lora=LORA).summary
    config = start.parent / "sft.yaml"
    half = stage("sft", start, "halves", lora=LORA, reporter=StopAfter(5, signal.SIGINT))
    config.write_text((half.run_dir / "config.yaml").read_text())
    arguments = ["sft", str(config), "--run-dir", str(half.run_dir), "--resume", "--json"]
    command = [sys.executable, "-m", "agentrl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert (result["weights"], result["steps"]) == (whole["weights"], 10)
    assert "resuming after step 5" in done.stderr
    assert "Warning" not in done.stderr


def test_a_damaged_checkpoint_is_passed_over(start: Path) -> None:
    whole = stage("sft", start, "whole").summary
    checkpoint = {"every_steps": 2, "keep_last": 2}
    run = stage("sft", start, "run", checkpoint=checkpoint, reporter=StopAfter(7)).run_dir
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000006", "step-000007"]
    with (run / "checkpoints/step-000007/optimizer.safetensors").open("ab") as file:
        file.write(b"!")
    reporter = StopAfter(99)
    rest = stage("sft", start, "run", checkpoint=checkpoint, resume=True, reporter=reporter).summary
    assert any("step-000007 is damaged" in message for message in reporter.messages)
    assert "resuming after step 6" in reporter.messages
    assert rest["digest"] == whole["digest"]
    assert [row["step"] for row in metrics(run)] == list(range(1, 11))


def test_preferences_are_learned_without_dropout(start: Path) -> None:
    """The policy of the first step is the reference."""
    first = metrics(stage("dpo", start, epochs=0.3).run_dir)[0]
    assert first["train_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["reward_margin"] == pytest.approx(0, abs=1e-5)


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


@pytest.mark.parametrize("place", ["stages.checkpoint.save_file", "policy.folders._replace", "stages.checkpoint.prune"])
@pytest.mark.parametrize("call", [pytest.param(1, marks=pytest.mark.long), 3])
def test_a_run_that_was_killed_while_it_saved_goes_on(
    start: Path, monkeypatch: pytest.MonkeyPatch, place: str, call: int
) -> None:
    """Also in the last of four checkpoints and with nothing to go back to."""
    options: dict[str, Any] = {"checkpoint": {"every_steps": 3, "keep_last": 1}}
    whole = stage("sft", start, "whole", **options).summary
    module, name = f"agentrl.{place}".rsplit(".", 1)
    calls, real = iter(range(1, 99)), pkgutil.resolve_name(f"{module}:{name}")

    def killed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(f"agentrl.{place}", killed)
        with pytest.raises(Killed):
            stage("sft", start, **options)
    rest = stage("sft", start, resume=True, **options)
    assert (rest.summary["weights"], rest.summary["steps"]) == (whole["weights"], 10)
    assert metrics(rest.run_dir) == metrics(start.parent / "whole")
    assert [path.name for path in (rest.run_dir / "checkpoints").iterdir()] == ["step-000010"]


def test_a_checkpoint_holds_no_pickle(start: Path) -> None:
    run = stage("sft", start, reporter=StopAfter(3)).run_dir
    suffixes = {path.suffix for path in (run / "checkpoints").rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json"}


def test_a_finished_run_writes_its_output_again(start: Path) -> None:
    first = stage("sft", start).summary
    (start.parent / "out" / "model.safetensors").unlink()
    assert stage("sft", start, resume=True).summary["digest"] == first["digest"]


def test_resuming_with_another_config_or_other_contents_is_refused(start: Path) -> None:
    stage("sft", start, reporter=StopAfter(3))
    with pytest.raises(CheckpointError, match=r"sft\.learning_rate: 0\.01 in the run, 0\.02 now"):
        stage("sft", start, resume=True, learning_rate=2e-2)
    data = start.parent / "sft.jsonl"
    text = data.read_text()
    data.write_text(text + text.splitlines()[0] + "\n")
    with pytest.raises(CheckpointError, match=r"versions\.train: '\w+' in the run"):
        stage("sft", start, resume=True)
    data.write_text(text)
    with pytest.raises(CheckpointError, match="already holds a run: go on in it with --resume"):
        stage("sft", start)
    changes: dict[str, Any] = {"learning_rate": 2e-2, "checkpoint": {"every_steps": 5}}
    assert stage("sft", start, resume=True, allow_change=["sft.learning_rate"], **changes).summary["steps"] == 10
    model = AutoModelForCausalLM.from_pretrained(start)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.1)
    model.save_pretrained(start)
    with pytest.raises(CheckpointError, match="was started from other weights"):
        stage("sft", start, resume=True, allow_change=["sft", "versions"], **changes)


def test_a_run_without_a_checkpoint_begins_anew(start: Path) -> None:
    run = stage("sft", start, reporter=StopAfter(3)).run_dir
    for folder in (run / "checkpoints").iterdir():
        (folder / "digests.json").unlink()
    rest = stage("sft", start, resume=True).summary
    assert rest["steps"] == 10
    assert [row["step"] for row in metrics(run)] == list(range(1, 11))


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_microbatches_take_the_same_steps(start: Path, kind: str) -> None:
    """Of examples with different lengths: the loss is normalised over the batch, not over its parts."""
    AutoModelForCausalLM.from_pretrained(start, attention_dropout=0.0).save_pretrained(start)
    options: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3}
    whole = stage(kind, start, "whole", **options, output=str(start.parent / "one")).summary
    split = stage(kind, start, "split", **options, output=str(start.parent / "two"), microbatch_size=1).summary
    assert whole["steps"] == split["steps"] == 3
    one, two = (AutoModelForCausalLM.from_pretrained(start.parent / name) for name in ("one", "two"))
    for (name, parameter), other in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.allclose(parameter, other, atol=5e-5), name
    assert whole["train_loss"] == pytest.approx(split["train_loss"], rel=1e-5)


def test_several_processes_are_refused(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="a stage trains in one process"):
        stage("sft", start)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_half_precision_and_recomputed_activations_learn_about_the_same(start: Path, kind: str) -> None:
    AutoModelForCausalLM.from_pretrained(start, attention_dropout=0.0).save_pretrained(start)
    for name, lora in (("lora", LORA), ("full", None)):
        plain = stage(kind, start, name, lora=lora).summary
        saving = stage(kind, start, f"{name}-saving", lora=lora, gradient_checkpointing=True).summary
        assert saving["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-5)
    half = stage(kind, start, "half", dtype="bfloat16").summary
    assert half["train_loss"] == pytest.approx(plain["train_loss"], rel=0.05)
    assert half["train_loss"] != plain["train_loss"]


def test_a_loss_that_is_no_number_stops_the_run(start: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(start)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(start)
    with pytest.raises(TrainingStopped, match="train_loss is nan"):
        stage("sft", start)
    assert not (start.parent / "out").exists()
    assert not list((start.parent / "run" / "checkpoints").iterdir())
    assert json.loads((start.parent / "run" / "summary.json").read_text())["stopped_by"] == "non_finite"


def test_adapters_are_merged_and_kept_beside(start: Path) -> None:
    from peft import PeftModel

    stage("sft", start, lora=LORA)
    out = start.parent / "out"
    merged = AutoModelForCausalLM.from_pretrained(out)
    base = AutoModelForCausalLM.from_pretrained(start)
    ids = torch.randint(0, 90, (2, 12))
    with torch.no_grad():
        untrained = base(ids).logits
        adapted = PeftModel.from_pretrained(base, out / "adapter")(ids).logits
        assert torch.allclose(merged(ids).logits, adapted, atol=1e-4)
    assert not torch.allclose(adapted, untrained, atol=1e-2)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_the_output_can_be_saved_in_half_precision(start: Path, lora: dict[str, Any] | None) -> None:
    stage("sft", start, lora=lora, epochs=0.3)
    whole = AutoModelForCausalLM.from_pretrained(start.parent / "out", dtype="auto")
    stage("sft", start, "half", lora=lora, epochs=0.3, save_dtype="float16")
    half = AutoModelForCausalLM.from_pretrained(start.parent / "out", dtype="auto")
    assert (whole.dtype, half.dtype) == (torch.float32, torch.float16)
    for one, other in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(one.half(), other)


def test_an_earlier_checkpoint_is_replaced_and_anything_else_is_not(start: Path) -> None:
    out = start.parent / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"sft\.output: .*out is there, and is no checkpoint"):
        stage("sft", start)
    assert (out / "thesis.txt").exists()
    (out / "config.json").write_text("{}")
    stage("sft", start, epochs=0.3)
    assert not (out / "thesis.txt").exists()
    assert not list(start.parent.glob(".out*"))


def test_every_pass_takes_every_example_once() -> None:
    lengths = [random.Random(i).randrange(100) for i in range(37)]
    order = training_order(lengths, epochs=3, batch_size=4, seed=1)
    assert sorted(order) == sorted(list(range(37)) * 3)
    assert order == training_order(lengths, epochs=3, batch_size=4, seed=1)
    assert order != training_order(lengths, epochs=3, batch_size=4, seed=2)
    assert len(training_order(lengths, epochs=0.5, batch_size=4, seed=1)) == 19
    assert len(set(training_order(lengths, epochs=1, batch_size=4, seed=1))) == 37


def test_batches_are_of_similar_lengths() -> None:
    draw = random.Random(0)
    lengths = [draw.randrange(1, 1000) for _ in range(400)]
    order = training_order(lengths, epochs=1, batch_size=8, seed=0)

    def padded(indices: list[int]) -> int:
        batches = [indices[i : i + 8] for i in range(0, len(indices), 8)]
        return sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)

    assert padded(order) < 1.1 * sum(lengths) < padded(list(range(400)))
    firsts = {
        lengths[order[0]] < 500 for order in (training_order(lengths, epochs=1, batch_size=8, seed=s) for s in range(9))
    }
    assert firsts == {True, False}  # short ones do not come first


def test_the_second_signal_is_not_held_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with noting_signals(lambda _: None) as noted:
        signal.raise_signal(signal.SIGINT)
        assert noted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with noting_signals(lambda _: None):
            assert signal.getsignal(signal.SIGINT) is before

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_resolved_config_loads_again(start: Path) -> None:
    run = stage("dpo", start, epochs=0.3).run_dir
    assert (run / "config.yaml").read_text() == to_yaml(
        dpo_config(start, start.parent / "dpo.jsonl", batch_size=4, epochs=0.3, learning_rate=1e-2)
    )
