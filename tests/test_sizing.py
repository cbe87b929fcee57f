"""The forecast is the arithmetic that it says it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import RunConfig
from agentrl.errors import BaselineError
from agentrl.sizing import Assumption, Assumptions, Forecast, ModelShape, episodes_at_once, forecast, model_shape

SHAPE = ModelShape(vocabulary=1000, layers=2, kv_heads=2, head_dim=8)
VALUES = {
    "prompt_tokens": 100.0,
    "calls_per_episode": 3.0,
    "turns_per_episode": 4.0,
    "tokens_per_turn": 10.0,
    "tool_output_tokens": 20.0,
    "tool_seconds": 0.5,
    "grader_seconds": 1.0,
    "sampled_tokens_per_second": 100.0,
    "trained_tokens_per_second": 1000.0,
    "usd_per_tool_call": 0.01,
    "usd_per_grade": 0.1,
    "usd_per_hour": 36.0,
}


def config(**sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "workflow": {"target": "t", "baseline": "b"},
        "tools": [{"name": "look", "server_url": "http://127.0.0.1:1/x", "max_concurrency": 5}],
        "grading": {"name": "g", "url": "http://127.0.0.1:1/g"},
        "inference": {"max_batch": 10},
        "rollout": {"max_context_tokens": 400},
        "ppo": {"steps": 3, "tasks_per_step": 4, "samples_per_task": 5, "epochs": 2},
        "evaluation": {"every_steps": 2, "samples_per_item": 2},
    }
    return RunConfig.model_validate(values | {key: values.get(key, {}) | each for key, each in sections.items()})


def planned(given: RunConfig | None = None, **values: float) -> Forecast:
    assumptions = Assumptions(**{name: Assumption(value, "given") for name, value in (VALUES | values).items()})
    return forecast(given or config(), assumptions, SHAPE, validation=6, test=7)


def test_episodes_are_those_of_training_warm_up_and_evaluations() -> None:
    found = planned()
    assert found["episodes_per_step"] == 20
    assert found["training_episodes"] == 3 * 20 + 20
    # baseline and final and best at 2 samples, after steps 2 and 3 at 1 sample, test twice
    assert found["episodes"] == 80 + 3 * 12 + 2 * 6 + 2 * 7
    assert planned(config(ppo={"steps": 0}))["episodes"] == 12 + 7
    no_test = config(ppo={"critic_warmup_steps": 0}, evaluation={"run_test": False, "validation_items": 2})
    assert planned(no_test)["episodes"] == 60 + 3 * 4 + 2 * 2


def test_requests_are_bounded_by_the_batch_and_by_the_endpoint() -> None:
    found = planned()
    assert found["tool_calls_per_step"] == 60
    assert found["tool_calls"] == 3 * found["episodes"]
    assert (found["peak_requests tool look"], found["peak_requests grader g"]) == (5, 10)
    assert episodes_at_once(config(inference={"max_batch": 1000}), validation=50, test=7) == 100
    assert episodes_at_once(config(rollout={"max_concurrent": 3}), validation=50, test=7) == 3


def test_tokens_end_at_the_context() -> None:
    found = planned()
    assert found["tokens_per_episode"] == 100 + 4 * 10 + 3 * 20
    assert found["sampled_tokens_per_step"] == 20 * 40
    assert found["tool_output_tokens"] == found["episodes"] * 60
    long = planned(tool_output_tokens=1000.0)
    assert long["tokens_per_episode"] == pytest.approx(400)
    assert long["tool_output_tokens"] == pytest.approx(long["episodes"] * 300 * 3000 / 3040)
    assert planned(config(rollout={"max_output_tokens": 25}))["sampled_tokens_per_step"] == 20 * 25


def test_memory_is_keys_and_values_of_the_longest_episodes() -> None:
    found = planned(config(inference={"kv_cache_bytes": 2 * 2 * 2 * 8 * 4 * 400 * 10 + 1}))
    assert found["kv_bytes_per_token"] == 2 * 2 * 2 * 8 * 4
    assert found["kv_bytes_per_episode"] == 256 * 200
    assert (found["episodes_that_fit"], found["episodes_at_once"]) == (7, 7)
    half = planned(config(policy={"dtype": "bfloat16"}))
    assert half["kv_bytes_per_token"] == 128


def test_time_is_the_longer_of_sampling_and_waiting_and_money_follows() -> None:
    found = planned()
    assert found["rollout_seconds_per_step"] == 8  # 800 tokens at 100/s; two waves wait 2.5 s each
    assert planned(tool_seconds=5.0)["rollout_seconds_per_step"] == 2 * (3 * 5 + 1)
    assert found["update_seconds_per_step"] == 2 * 20 * 200 / 1000
    waiting = 3 * (8 + 8) + 8 + 62 * 40 / 100
    assert found["hours"] * 3600 == pytest.approx(waiting)
    episodes = found["episodes"]
    assert found["usd"] == pytest.approx(0.03 * episodes + 0.1 * episodes + waiting / 100)
    prices = {"usd_per_million_prompt_tokens": 10.0, "usd_per_million_sampled_tokens": 100.0}
    priced = planned(config(rollout={"prices": prices}))
    assert priced["usd_tokens"] == pytest.approx(episodes * (160 * 10 + 40 * 100) / 1e6)


def test_the_error_has_the_draw_and_the_mean_in_it() -> None:
    measured = Assumption(3.0, "a run", spread=2.0, episodes=100)
    assert measured.error(25, alike=1) == pytest.approx(2 * 2 * (25 + 25**2 / 100) ** 0.5)
    assert measured.error(25, alike=4) == 2 * measured.error(25, alike=1)
    assert Assumption(3.0, "a default").error(25, alike=4) == 0


@pytest.mark.parametrize(
    ("found", "shape"),
    [
        (
            {
                "vocab_size": 9,
                "num_hidden_layers": 3,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "head_dim": 16,
            },
            ModelShape(9, 3, 2, 16),
        ),
        (
            {"vocab_size": 9, "num_hidden_layers": 3, "num_attention_heads": 8, "hidden_size": 64},
            ModelShape(9, 3, 8, 8),
        ),
        ({"vocab_size": 9, "n_layer": 2, "n_head": 4, "n_embd": 32}, ModelShape(9, 2, 4, 8)),
        (
            {"text_config": {"vocab_size": 9, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8}},
            ModelShape(9, 1, 2, 4),
        ),
    ],
)
def test_the_shape_is_read_from_the_checkpoint(tmp_path: Path, found: dict[str, Any], shape: ModelShape) -> None:
    (tmp_path / "config.json").write_text(json.dumps(found))
    assert model_shape(tmp_path) == shape


def test_a_checkpoint_that_does_not_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"config.json: cannot be read"):
        model_shape(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 3}')
    with pytest.raises(BaselineError, match="does not say how many layers"):
        model_shape(tmp_path)
