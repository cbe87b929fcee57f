"""Runs that train adapters, sampled in this process and on servers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agentrl.errors import ConfigError
from agentrl.inference import vllm
from agentrl.policy.policy import load_policy
from agentrl.training import train
from tests.engine_fixtures import chance_policy, make_tokenizer
from tests.fake_vllm import FakeVLLM
from tests.toy_run import metrics, toy_run


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(vllm, "POLL_SECONDS", 0.05)


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    server = FakeVLLM(chance_policy(make_tokenizer()))
    yield server
    server.stop()


def on_server(fake: FakeVLLM, folder: Path) -> dict[str, Any]:
    return {"kind": "vllm", "url": fake.url, "adapter_dir": str(folder / "adapters")}


@pytest.mark.slow
def test_a_run_with_adapters_is_resumed_and_measured_as_any_other(tmp_path: Path, baseline: Path) -> None:
    config = toy_run(
        tmp_path,
        baseline,
        inference={"temperature": 1.0, "deterministic": True},
        ppo={"samples_per_task": 16, "minibatches": 4},  # fewer learn by luck
    )
    whole = train(config, run_dir=tmp_path / "whole")
    half = toy_run(
        tmp_path, baseline, inference={"temperature": 1.0, "deterministic": True}, ppo={**_ppo(config), "steps": 2}
    )
    train(half, run_dir=tmp_path / "resumed")
    resumed = train(config, run_dir=tmp_path / "resumed", resume=True)
    name = "checkpoints/step-000004/policy/adapter_model.safetensors"
    one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "resumed" / name)
    assert all(torch.equal(one[key], other[key]) for key in one)
    for result in (whole, resumed):
        assert result.summary["reference_digest_before"] == result.summary["reference_digest_after"]
        assert result.summary["best_step"] > 0
        best = result.run_dir / "checkpoints" / "best"
        assert (best / "model.safetensors").is_file()
        assert (best / "adapter" / "adapter_config.json").is_file()
        assert result.summary["best"]["reward"] > result.summary["baseline"]["reward"]
        assert result.summary["test"]["baseline"]["reward"] is not None  # the baseline was loaded back for it
    again = toy_run(tmp_path, best, policy={"lora": None})  # another run may start where this one ended
    assert load_policy(again).digest() != load_policy(toy_run(tmp_path, baseline, policy={"lora": None})).digest()


def _ppo(config: Any) -> dict[str, Any]:
    return config.ppo.model_dump(exclude={"steps"}, mode="json")  # type: ignore[no-any-return]


def test_a_run_on_a_server_survives_its_restarts(fake: FakeVLLM, tmp_path: Path, baseline: Path) -> None:
    config = toy_run(tmp_path, baseline, inference=on_server(fake, tmp_path))
    done = threading.Event()

    def restart_now_and_then() -> None:
        for _ in range(3):
            seen = len(fake.log)
            while len(fake.log) < seen + 60 and not done.is_set():
                time.sleep(0.01)
            fake.stop()
            time.sleep(0.2)
            fake.start()

    chaos = threading.Thread(target=restart_now_and_then)
    chaos.start()
    try:
        result = train(config, run_dir=tmp_path / "run")
    finally:
        done.set()
        chaos.join()
    assert result.stopped_by is None
    rows = metrics(tmp_path / "run")
    assert len(rows) == 4
    for row in rows:
        assert row["mismatch_abs_logprob_max"] < 1e-4  # so no turn was another version's
        assert row["infra_failed_fraction"] == 0
    assert rows[-1]["reward_train"] > rows[0]["reward_train"]
    assert os.listdir(tmp_path / "adapters") == []


def test_a_run_stops_where_a_server_does_not_take_an_update(fake: FakeVLLM, tmp_path: Path, baseline: Path) -> None:
    config = toy_run(tmp_path, baseline, inference=on_server(fake, tmp_path))
    load = fake._load

    def load_the_first_two(name: str, path: str) -> Any:
        fake.is_deaf = "policy-000002" in name
        return load(name, path)

    fake._load = load_the_first_two  # type: ignore[method-assign]
    result = train(config, run_dir=tmp_path / "run")
    assert result.stopped_by == "engine_probe"
    assert result.summary["steps"] == len(metrics(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "checkpoints" / "step-000002" / "digests.json").is_file()  # to go on from


def test_a_server_that_cannot_serve_is_found_before_anything_is_written(
    fake: FakeVLLM, tmp_path: Path, baseline: Path
) -> None:
    fake.is_raw = True
    config = toy_run(tmp_path, baseline, inference={**on_server(fake, tmp_path), "temperature": 0.7})
    with pytest.raises(ConfigError, match="--logprobs-mode processed_logprobs"):
        train(config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
