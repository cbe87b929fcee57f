from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentrl.config import SFTRunConfig
from agentrl.errors import BaselineError, ConfigError
from agentrl.stages.conversations import IGNORED, encode, encode_file, read_conversations
from agentrl.stages.course import StageResult
from agentrl.stages.sft import run_sft
from tests.engine_fixtures import CALL, END, TEMPLATE, make_tokenizer, qwen3

FUNCTION = {"name": "look", "arguments": {"key": "a"}}


def conversation(answer: str) -> dict[str, Any]:
    call = {"type": "function", "function": FUNCTION}
    return {
        "messages": [
            {"role": "user", "content": f"Is it {answer}?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": answer},
            {"role": "assistant", "content": answer},
        ]
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    tokenizer = make_tokenizer()
    qwen3(len(tokenizer), eos_token_id=tokenizer.eos_token_id).save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def fine_tune(start: Path, train: Path, run_dir: str = "run", **options: Any) -> StageResult:
    return run_sft(sft_config(start, train, **options), run_dir=start.parent / run_dir)


def sft_config(start: Path, train: Path, **options: Any) -> SFTRunConfig:
    section = {"model": str(start), "output": str(start.parent / "out"), "train": str(train), "threads": 1, **options}
    return SFTRunConfig.model_validate({"sft": section})


def test_the_loss_falls_and_the_checkpoint_can_be_loaded(start: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    rows = [conversation(rng.choice(["yes", "no"])) for _ in range(30)]
    train = write(start.parent / "train.jsonl", rows)
    options = {"validation": str(train), "batch_size": 6, "learning_rate": 0.02}
    untrained = fine_tune(start, train, "one", **{**options, "epochs": 0.2, "learning_rate": 1e-12}).summary
    result = fine_tune(start, train, "two", **options, epochs=6).summary
    assert (untrained["steps"], result["steps"]) == (1, 30)
    assert untrained["validation_loss"] > 4
    assert result["validation_loss"] < 1
    assert result["tokens"] == sum(len(encode(make_tokenizer(), row["messages"], 999)["input_ids"]) for row in rows)
    captured = capfd.readouterr()
    out = Path(result["output"])
    assert {path.name for path in out.parent.iterdir()} == {"start", "train.jsonl", "out", "one", "two"}
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    prompt = tokenizer.apply_chat_template(rows[0]["messages"][:1], add_generation_prompt=True, return_tensors="pt")
    said = model.generate(**prompt, max_new_tokens=2, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(said) == CALL + END
    assert captured.out == ""  # stdout is for results
    assert "Loading weights" not in captured.err
    assert result["digest"].startswith("sha256:")


def test_the_reported_loss_is_that_of_assistant_tokens(start: Path) -> None:
    rows = [conversation("yes")]
    train = write(start.parent / "train.jsonl", rows)
    result = fine_tune(start, train, validation=str(train), learning_rate=1e-12, batch_size=1).summary
    row = encode(make_tokenizer(), rows[0]["messages"], 999)
    model = AutoModelForCausalLM.from_pretrained(start)
    with torch.no_grad():
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:]), ignore_index=IGNORED)
    assert result["validation_loss"] == pytest.approx(float(plain), abs=1e-3)


def test_labels_are_exactly_what_the_assistant_says() -> None:
    tokenizer = make_tokenizer()
    row = encode(tokenizer, conversation("yes")["messages"], 999)
    spoken = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(spoken) == f"{CALL}{END}yes{END}"
    assert all(label in (IGNORED, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))
    rest = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == IGNORED]
    assert tokenizer.decode(rest).count("<|im_start|>assistant\n") == 2


def test_ids_and_labels_are_cut_together() -> None:
    whole = encode(make_tokenizer(), conversation("yes")["messages"], 999)
    cut = encode(make_tokenizer(), conversation("yes")["messages"], 60)
    assert cut == {key: whole[key][:60] for key in whole}


def test_calls_in_openais_form_are_learnt_as_objects() -> None:
    rows = [conversation("yes"), conversation("yes")]
    rows[1]["messages"][1]["tool_calls"] = [{"type": "function", "function": {**FUNCTION, "arguments": '{"key": "a"}'}}]
    one, other = (encode(make_tokenizer(), row["messages"], 999) for row in rows)
    assert one == other


def test_each_call_keeps_its_own_arguments(start: Path) -> None:
    """A table of messages would give every call the union of all argument names."""
    other = conversation("no")
    other["messages"][1]["tool_calls"] = [{"type": "function", "function": {"name": "look", "arguments": {"page": 3}}}]
    path = write(start.parent / "train.jsonl", [conversation("yes"), other])
    texts = [make_tokenizer().decode(row["input_ids"]) for row in encode_file(make_tokenizer(), path, 999)]
    assert ["key" in text for text in texts] == [True, False]
    assert "null" not in texts[1]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "JSONDecodeError"),
        ("[1]", "TypeError"),
        ('"text"', "TypeError"),
        ('{"message": []}', "KeyError: 'messages'"),
        ('{"messages": {"role": "assistant"}}', "messages are a list of objects with a role"),
        ('{"messages": ["hello"]}', "TypeError"),
        ('{"messages": [{"content": "hello"}]}', "KeyError: 'role'"),
        ('{"messages": [{"role": "user", "content": "hello"}]}', "no assistant message to learn from"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{"function": 3}]}]}', "the chat template refuses this"),
        ('{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant"}]}' % ("x" * 99), "behind sft.max"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, found: str) -> None:
    path = write(tmp_path / "train.jsonl", [conversation("yes")])
    with path.open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        encode_file(make_tokenizer(), path, 90)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert found in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"messages": "\xff"}\n')
    with pytest.raises(ConfigError, match=r"train\.jsonl:1: found no conversation \(UnicodeDecodeError"):
        list(read_conversations(path))


def test_a_missing_or_empty_file_is_named(start: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.jsonl: no such file"):
        fine_tune(start, start.parent / "nothing.jsonl")
    with pytest.raises(ConfigError, match="holds no conversation"):
        fine_tune(start, write(start.parent / "train.jsonl", []))


def test_a_starting_checkpoint_that_cannot_be_used_is_refused(start: Path) -> None:
    train = write(start.parent / "train.jsonl", [conversation("yes")])
    with pytest.raises(BaselineError, match=r"sft\.model: no folder"):
        fine_tune(start.parent / "nothing", train)
    make_tokenizer(TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")).save_pretrained(start)
    with pytest.raises(BaselineError, match="the chat template marks no assistant tokens"):
        fine_tune(start, train)
    (start / "model.safetensors").unlink()
    with pytest.raises(BaselineError, match="cannot be loaded"):
        fine_tune(start, train)
