"""Mistakes in graders that ask a model, named where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrl.config import load_config
from agentrl.config.graders import LabelModelConfig, RubricConfig, ScoreModelConfig
from agentrl.config.graders.judge import JudgeMessage, JudgePrices, SamplingParams
from agentrl.config.loading import to_yaml
from agentrl.errors import ConfigError

ASK = [{"role": "user", "content": "{{ sample.output_text }}"}]
SCORE = {"type": "score_model", "model": "m", "input": ASK}
LABEL = {"type": "label_model", "model": "m", "input": ASK, "labels": ["a", "b"], "passing_labels": ["a"]}
RUBRIC = {"type": "rubric", "model": "m", "criteria": [{"id": "a", "text": "It is right."}]}


def load(tmp_path: Path, grader: dict[str, Any]) -> Any:
    path = tmp_path / "run.yaml"
    config = {"workflow": {"target": "t", "baseline": "b"}, "grading": grader}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_config(path).grading


@pytest.mark.parametrize(
    ("grader", "message"),
    [
        ({**SCORE, "range": [1, 0]}, r"range: found \[1, 0\]; allowed: the least score, then a better one"),
        ({**SCORE, "range": [0]}, "range"),
        ({**SCORE, "input": []}, r"run.yaml:7: grading.input: found a list of 0; allowed: at least 1 entry$"),
        (
            {**SCORE, "input": "x"},
            r"grading.input: found the text 'x'; allowed: a list of mappings \(type, role, content",
        ),
        (  # and nothing about the list as a whole
            {**SCORE, "input": [{"role": "tool", "content": "x"}]},
            r"run.yaml:8: grading.input\[0\].role: found the text 'tool'; allowed: user, assistant, system, developer$",
        ),
        ({**SCORE, "input": [{"role": "user", "content": ""}]}, r"input\[0\].content: found nothing"),
        ({**SCORE, "input": [{"role": "user", "content": 7}]}, r"input\[0\].content: found 7"),
        (
            {**SCORE, "input": [{"role": "user", "content": [{"type": "input_txt", "text": "a"}]}]},
            r"input\[0\].content\[0\].type: found 'input_txt'; allowed: .*did you mean 'input_text'",
        ),
        (
            {**SCORE, "input": [{"role": "user", "content": {"type": "input_text"}}]},
            r"input\[0\].content.text: found nothing; allowed: text",
        ),
        (
            {**SCORE, "input": [{"role": "user", "content": {"type": "input_text", "text": "a", "cache": 1}}]},
            r"content.cache: unknown key; allowed: type, text",
        ),
        (
            {**SCORE, "input": [{"role": "user", "content": {"type": "input_image", "image_url": "u", "detail": "x"}}]},
            r"content.detail: found 'x'; allowed: high, low, auto",
        ),
        (
            {**SCORE, "input": [{"role": "user", "content": {"type": "input_audio", "input_audio": "x"}}]},
            r"content.input_audio: allowed: a mapping with data and format",
        ),
        (
            {**SCORE, "input": [{"role": "user", "content": "{{ smaple.output_text }}"}]},
            r"input\[0\].content: found '{{ smaple.output_text }}'; allowed: .*did you mean 'sample'",
        ),
        ({**SCORE, "sampling_params": {"max_tokens": 5}}, "sampling_params.max_tokens: unknown key; did you mean"),
        (
            {**SCORE, "sampling_params": {"max_completion_tokens": 5, "max_completions_tokens": 6}},
            "max_completion_tokens: unknown key; did you mean 'max_completions_tokens'",
        ),
        ({**SCORE, "sampling_params": {"reasoning_effort": "hihg"}}, "did you mean 'high'"),
        ({**SCORE, "judge": {"api_key": "x"}}, "judge.api_key: unknown key; did you mean 'api_key_env'"),
        ({**SCORE, "judge": {"api_key_env": "sk-abc"}}, r"judge.api_key_env: found another text \(not shown\)"),
        ({**SCORE, "judge": {"base_url": "localhost:8000"}}, "judge.base_url"),
        (
            {**SCORE, "judge": {"cache": False, "cache_path": "x"}},
            "judge.cache_path: found a folder with `cache: false`",
        ),
        (
            {**SCORE, "judge": {"prices": {"gpt-4o": {"usd_per_million_prompt_tokens": -1}}}},
            r"judge.prices.gpt-4o.usd_per_million_completion_tokens: missing(.|\n)*found -1; allowed: a number",
        ),
        ({**LABEL, "passing_labels": ["c"]}, r"passing_labels\[0\]: found 'c'; allowed: one of the labels \(a, b\)"),
        ({**LABEL, "passing_labels": ["a", "b"]}, "passing_labels: found every label"),
        ({**LABEL, "passing_labels": []}, "passing_labels"),
        ({**LABEL, "labels": ["a", "b", "a"]}, r"labels\[2\]: found 'a' a second time"),
        ({**RUBRIC, "criteria": []}, "criteria: found none; allowed: a list of criteria, or `rubric:`"),
        ({**RUBRIC, "rubric": "r.yaml"}, "rubric: found a file beside `criteria`"),
        ({**RUBRIC, "criteria": [{"id": "a", "text": "x", "weight": 0.0}]}, "weight"),
        ({**RUBRIC, "criteria": [{"id": "a.b", "text": "x"}]}, "up to 64 letters"),
        ({**RUBRIC, "criteria": [{"id": "a", "text": "x", "type": "ordinal"}]}, "anchors: found 0; allowed: at least"),
        ({**RUBRIC, "criteria": [{"id": "a", "text": "x", "anchors": ["n"]}]}, "anchors: found 1; allowed: two"),
        (
            {**RUBRIC, "criteria": [{"id": "a", "text": "x", "met_from": 0.5}]},
            "met_from: found without `required: true`",
        ),
        ({**RUBRIC, "criteria": [{"id": "a", "text": "x"}] * 2}, r"criteria\[1\].id: found 'a' a second time"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, grader: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load(tmp_path, grader)
    assert "run.yaml:" in str(raised.value)
    assert "sk-abc" not in str(raised.value)


@pytest.mark.parametrize("grader", [SCORE, LABEL, RUBRIC, {"type": "rubric", "model": "m", "rubric": "r.yaml"}])
def test_a_minimal_declaration_is_enough(tmp_path: Path, grader: dict[str, Any]) -> None:
    grading = load(tmp_path, grader)
    assert load(tmp_path, yaml.safe_load(to_yaml(grading))) == grading
    found = grading.grader
    assert isinstance(found, ScoreModelConfig | LabelModelConfig | RubricConfig)
    assert (found.least_score, found.best_score) == (0.0, 1.0)


def test_the_range_of_a_judge_is_that_of_the_run(tmp_path: Path) -> None:
    grading = load(tmp_path, {**SCORE, "range": [1, 5], "pass_threshold": 4})
    assert (grading.min_score, grading.max_score, grading.pass_threshold) == (1.0, 5.0, 4.0)


@pytest.mark.parametrize("key", ["max_completions_tokens", "max_completion_tokens"])
def test_both_spellings_of_the_token_limit_mean_one(key: str) -> None:
    assert SamplingParams.model_validate({key: 7}).as_request() == {"max_completion_tokens": 7}


def test_content_is_text_a_block_or_a_list_of_both() -> None:
    block = {"type": "input_text", "text": "a"}
    written: list[Any] = ["a", block, ["a", block], [block]]
    assert [JudgeMessage(role="user", content=each).blocks for each in written] == [
        [block],
        [block],
        [block] * 2,
        [block],
    ]


def test_cached_tokens_cost_what_others_do_unless_said() -> None:
    prices = JudgePrices(usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=4.0)
    assert prices.cost_usd(prompt=1_000_000, cached=500_000, completion=1_000_000) == 6.0
    cheaper = prices.model_copy(update={"usd_per_million_cached_tokens": 0.0})
    assert cheaper.cost_usd(prompt=1_000_000, cached=500_000, completion=0) == 1.0


@pytest.mark.parametrize(
    ("grading", "message"),
    [
        (
            {"type": "multi", "graders": {}, "calculate_output": "1"},
            "graders: found an empty mapping; allowed: at least 1 entry",
        ),
        ({**SCORE, "holdout": {"strict": SCORE}}, "allowed: a list of mappings with a type"),
        ({**LABEL, "labels": ["a"]}, "labels: found a list of 1; allowed: at least 2 entries"),
    ],
)
def test_what_lacks_entries_is_said_to_lack_them(tmp_path: Path, grading: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, grading)
