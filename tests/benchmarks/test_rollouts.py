"""The benchmark measures what it says; how fast anything is decides no test."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.chat import ChatFormat
from agentrl.types import Sample, ToolCall
from benchmarks.rollouts import task
from benchmarks.rollouts.__main__ import FIGURES, PARTS, measure, parse
from benchmarks.rollouts.episodes import Watched, new_tokens
from benchmarks.rollouts.turns import Bound
from tests.factories import make_rollout

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return task.make_tokenizer()


def test_the_conversations_are_what_a_chat_format_reads(tokenizer: Any) -> None:
    chat = ChatFormat(tokenizer)
    for seed in range(20):
        messages = task.conversation(random.Random(seed))
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        turns = [part.split(task.END)[0] for part in text.split("assistant\n")[1:]]
        parsed = [chat.parse(tokenizer.encode(turn), call_id_prefix="c") for turn in turns]
        assert not any(turn.malformed for turn in parsed)
        assert [len(turn.calls) for turn in parsed] == [1] * (len(turns) - 1) + [0]
        assert "Answer: " in parsed[-1].text


def test_keys_and_thoughts_are_single_tokens(tokenizer: Any) -> None:
    assert len(tokenizer) == task.VOCABULARY
    assert all(len(tokenizer.encode(key)) == 1 for key in task.KEYS)
    assert all(len(tokenizer.encode(f" {word}")) == 1 for word in task.WORDS)


def test_the_trail_visits_every_key_and_the_tool_tells_it() -> None:
    trail = [task.KEYS[0]]
    while len(trail) < len(task.KEYS):
        trail.append(task.next_key(trail[-1]))
    assert sorted(trail) == sorted(task.KEYS)
    call = ToolCall("c", "lookup", json.dumps({"key": trail[0]}))
    result = asyncio.run(task.LookupTool(0.0).call(call, rollout_id="r", item={}))
    assert result.output == task.found(trail[1])
    assert task.next_key("no such key") in task.KEYS


def test_the_tasks_of_a_seed_are_fixed_and_differ_between_seeds() -> None:
    scale = task.Scale()
    assert task.make_tasks(scale, 1) == task.make_tasks(scale, 1)
    assert task.make_tasks(scale, 1) != task.make_tasks(scale, 2)
    assert len(task.make_tasks(scale, 1, 16)) == 16


def test_the_endless_model_never_ends_a_turn(tokenizer: Any) -> None:
    model = task.endless(task.make_model(task.QUICK, tokenizer))
    with torch.no_grad():
        logits = model(torch.randint(0, task.VOCABULARY, (4, 64))).logits
    assert logits.log_softmax(-1)[..., tokenizer.eos_token_id].max() < -50


def test_fine_tuning_lowers_the_loss_of_a_conversation(tokenizer: Any) -> None:
    model = task.make_model(task.QUICK, tokenizer)
    ids = torch.tensor([tokenizer.apply_chat_template(task.conversation(random.Random(9)), return_dict=False)])
    with torch.no_grad():
        before = model(ids, labels=ids).loss
        with torch.enable_grad():
            task.fine_tune(model, tokenizer, 12)
        assert model(ids, labels=ids).loss < before


def test_idle_is_the_time_in_which_nobody_generates() -> None:
    class Engine:
        policy_version = 0

        async def generate(self, *_: Any, **__: Any) -> Sample:
            await asyncio.sleep(0.05)
            return Sample((1,), (0.0,), is_truncated=False, policy_version=0)

    async def overlap(pause: float) -> float:
        engine: Any = Watched(Engine())  # type: ignore[arg-type]

        async def episode(wait: float) -> None:
            await engine.generate([1], session="s", seed=0, max_tokens=1)
            await asyncio.sleep(wait)
            await engine.generate([1], session="s", seed=0, max_tokens=1)

        await asyncio.gather(episode(pause), episode(0.0))
        return float(engine.idle_seconds)

    assert asyncio.run(overlap(0.0)) < 0.02
    assert asyncio.run(overlap(0.25)) >= 0.1  # of 0.25, the other episode's second generation covers 0.05


def test_new_tokens_count_a_prompt_once_and_every_token_that_no_decode_step_feeds() -> None:
    rollouts = [make_rollout(sample_index=0, tools=("search",)), make_rollout(sample_index=1, tools=("search",))]
    observed = sum(len(rollout.turns[0].observation_ids) for rollout in rollouts)
    assert observed > 0
    assert new_tokens(rollouts) == len(rollouts[0].prompt_ids) + observed + 2


def test_the_bound_multiplies_by_every_linear_layer_and_reads_every_cache(tokenizer: Any) -> None:
    model = task.make_model(task.QUICK, tokenizer)
    bound = Bound(model, rows=3, context=5)
    assert len(bound._weights) == 2 * 7 + 1
    assert len(bound._cache) == 2 * 2
    assert all(seconds > 0 for seconds in bound.seconds(1))


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "generate,decod"])
    assert "decod; allowed: generate" in capsys.readouterr().err


def test_the_parts_without_peers_give_their_figures(tmp_path: Path) -> None:
    only = "generate,decode,tool_wait,prefill,long_context,vllm"
    options = parse(["--quick", "--repeats", "1", "--model-dir", str(tmp_path), "--only", only])
    results = asyncio.run(measure(options))
    wanted = """vs_generate vs_generate_static vs_generate_distinct decode_vs_bound decode_vs_bound_distinct
    prefill_tokens_over_new""".split()
    assert all(results[name] > 0 for name in wanted)
    assert 0 <= results["tool_wait_fraction"] < 1
    assert results["vs_vllm"] is None
    assert results["long_context"]["tokens"] > 900


@pytest.mark.slow
def test_the_whole_run_ends_with_one_json_object(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.rollouts", "--quick", "--repeats", "1", "--json"]
    done = subprocess.run(
        [*command, "--model-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert set(FIGURES) <= set(results)
    assert all(results[name] > 0 for name in ("vs_trl_50ms", "vs_trl_0ms", "vs_trl_1s"))
    assert results["vs_vllm"] is None
    assert results["machine"]["threads"] == 1
    assert len(PARTS) == len(set(PARTS))
