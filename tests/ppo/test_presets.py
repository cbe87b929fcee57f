"""Presets, schedules, and which combinations are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from agentrl.config import PPOConfig, load_config, to_yaml
from agentrl.config.presets import PRESETS, Preset
from agentrl.errors import ConfigError
from agentrl.ppo.rules import rules
from agentrl.ppo.schedule import learning_rate_factor

WORKFLOW = "workflow: {target: t, baseline: b}\n"


def load(folder: Path, ppo: str) -> PPOConfig:
    path = folder / "run.yaml"
    path.write_text(WORKFLOW + f"ppo: {{{ppo}}}\n", "utf-8")
    return load_config(path).ppo


def test_every_preset_has_its_keys_and_only_keys_that_there_are() -> None:
    assert set(PRESETS) == set(get_args(Preset))
    for preset, keys in PRESETS.items():
        assert keys.keys() <= PPOConfig.model_fields.keys()
        config = PPOConfig(preset=preset)  # type: ignore[arg-type]
        assert {key: getattr(config, key) for key in keys} == keys


def test_presets_change_advantages_and_normalisers_alone() -> None:
    allowed = {
        *("advantage", "whiten_advantages", "scale_by_group_std", "gamma", "gae_lambda", "aggregation", "ratio_level"),
        *("clip_range_low", "clip_range_high", "dual_clip", "critic_warmup_steps", "value_coef"),
    }
    assert {key for keys in PRESETS.values() for key in keys} <= allowed


def test_a_written_key_wins_over_the_preset(tmp_path: Path) -> None:
    config = load(tmp_path, "preset: grpo, aggregation: token_mean, clip_range_high: 0.3")
    assert (config.aggregation, config.clip_range_high, config.clip_range_low) == ("token_mean", 0.3, 0.2)


@pytest.mark.parametrize("preset", get_args(Preset))
def test_the_resolved_config_is_the_long_form_and_loads_to_the_same(preset: str, tmp_path: Path) -> None:
    config = load(tmp_path, f"preset: {preset}")
    text = to_yaml(load_config(tmp_path / "run.yaml"))
    assert all(yaml.safe_load(text)["ppo"][key] == value for key, value in PRESETS[preset].items())
    (tmp_path / "again.yaml").write_text(text, "utf-8")
    assert load_config(tmp_path / "again.yaml").ppo == config


@pytest.mark.parametrize(
    ("ppo", "place"),
    [
        ("preset: rloo, samples_per_task: 1", "samples_per_task: found 1 with advantage: rloo; allowed: at least 2"),
        ("preset: grpo, whiten_advantages: true", "whiten_advantages: found true with advantage: grpo"),
        ("preset: grpo, value_coef: 0.1", "value_coef: found 0.1 with advantage: grpo; allowed: 0"),
        ("advantage: grpo", "critic_warmup_steps: found 20 with advantage: grpo; allowed: 0"),
        ("preset: gspo, clip_range_high: 0.2", "clip_range_high: found 0.2 with ratio_level: sequence"),
        ("mismatch_trajectory_range: [1.01, 1.02]", "mismatch_trajectory_range: found [1.01, 1.02]; allowed: a range"),
        ("old_logprobs: engine, mismatch_token_range: [0.5, 2.0]", "with old_logprobs: engine; allowed: null"),
        ("preset: ppo2", "preset: found the text 'ppo2'; allowed: token_gae"),
    ],
)
def test_combinations_that_mean_nothing_are_refused_with_the_reason(ppo: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, ppo)
    assert place in str(caught.value)


def test_compute_multiplier_is_another_name_for_samples_per_task(tmp_path: Path) -> None:
    assert load(tmp_path, "compute_multiplier: 6").samples_per_task == 6
    with pytest.raises(ConfigError, match="compute_multiplier"):
        load(tmp_path, "compute_multiplier: 6, samples_per_task: 6")


def factors(**config: Any) -> list[float]:
    settings = PPOConfig(**config)
    return [learning_rate_factor(step, settings) for step in range(settings.steps)]


def test_learning_rates_rise_and_fall_as_the_schedule_says() -> None:
    assert factors(steps=3) == [1, 1, 1]
    assert factors(steps=6, learning_rate_warmup_steps=3) == [0.25, 0.5, 0.75, 1, 1, 1]
    linear = factors(steps=6, learning_rate_warmup_steps=2, learning_rate_schedule="linear")
    assert linear == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])
    cosine = factors(steps=4, learning_rate_schedule="cosine")
    assert cosine == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_a_run_of_more_steps_than_planned_stays_at_the_end_of_its_schedule() -> None:
    assert learning_rate_factor(9, PPOConfig(steps=4, learning_rate_schedule="linear")) == 0


def test_sequence_ratios_are_meant_to_be_clipped_much_and_stop_no_run() -> None:
    def limits(preset: Any) -> list[Any]:
        (rule,) = (each for each in rules(PPOConfig(preset=preset)) if each.name == "clip_fraction")
        return [rule.warn, rule.stop]

    assert limits("gspo") == [None, None]
    assert None not in limits("grpo")
