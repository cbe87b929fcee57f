"""A run is its config and the versions of what the config names; a resumed run has to be the same one."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrl.config import RunConfig, load_config, training_sections
from agentrl.data.tasks import load_tasks
from agentrl.errors import CheckpointError
from agentrl.evaluation.versions import tokenizer_digest, versions
from agentrl.grading.build import build_grader
from agentrl.grading.holdout import HoldoutGraders
from agentrl.runs.identity import run_hash
from agentrl.tools.preflight import check_endpoints
from agentrl.training import train
from tests.engine_fixtures import make_tokenizer
from tests.toy_run import toy_run

NAMES = {"model", "tokenizer", "dataset", "reward_model", "graders", "grader", "rubric", "tools", "agentrl"}


@pytest.fixture
def config(tmp_path: Path, baseline: Path) -> RunConfig:
    steps = {"steps": 1, "tasks_per_step": 2, "samples_per_task": 2, "critic_warmup_steps": 0}
    evaluation = {"validation_items": 2, "samples_per_item": 1, "run_test": False}
    return toy_run(tmp_path, baseline, ppo=steps, evaluation=evaluation)


def versions_of(config: RunConfig, tokenizer: Any = None, **told: str) -> dict[str, Any]:
    sections = training_sections(config)
    graders = {
        **build_grader(sections.grading, "http://localhost").versions,
        **HoldoutGraders.from_config(sections.grading, "http://localhost").versions,
    }
    return versions(config, load_tasks(sections.data), tokenizer or make_tokenizer(), told, ["look"], graders)


def hashed(config: RunConfig, tokenizer: Any = None, **told: str) -> str:
    found = versions_of(config, tokenizer, **told)
    assert found.keys() == NAMES
    return run_hash(config.model_dump(mode="json"), found)


def test_another_version_of_anything_that_a_run_uses_is_another_run_hash(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_TOKEN", "t")

    def changed(**sections: dict[str, Any]) -> RunConfig:
        return load_config(
            tmp_path / "toy.yaml", [f"{k}.{n}={v}" for k, part in sections.items() for n, v in part.items()]
        )

    hashes = {"nothing": hashed(config), "nothing again": hashed(config)}
    assert len(set(hashes.values())) == 1
    other = tmp_path / "other"
    shutil.copytree(config.workflow.baseline, other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    moved = changed(workflow={"baseline": str(other)})
    assert versions_of(moved)["model"] != versions_of(config)["model"]
    hashes |= {
        "model": hashed(moved),
        "reward model": hashed(changed(workflow={"reward_model": "toy"})),
        "tokenizer": hashed(config, make_tokenizer("{{ messages }}")),
        "grader": hashed(config, **{"grader toy": "2"}),
        "rubric": hashed(config, **{"rubric toy": "2"}),
        "hold-out": hashed(changed(grading={"holdout": "[{name: gold, url: http://127.0.0.1:9/grade}]"})),
        "tool server": hashed(config, **{"tool look": "2"}),
        "config": hashed(changed(ppo={"learning_rate": 0.5})),
    }
    tasks = tmp_path / "train.jsonl"
    tasks.write_text(tasks.read_text().replace("train-3?", "train-3!"))
    hashes["dataset"] = hashed(config)
    assert len(set(hashes.values())) == len(hashes) - 1, hashes


def test_a_tokenizers_digest_is_of_its_tokens_and_its_template() -> None:
    one, same, template, token = (make_tokenizer() for _ in range(4))
    template.chat_template += " "
    token.add_tokens(["maybe"])
    assert tokenizer_digest(one) == tokenizer_digest(same)
    assert len({tokenizer_digest(each) for each in (one, template, token)}) == 3


def test_endpoints_tell_their_versions_in_the_preflight_call(config: RunConfig) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/grade"):
            return httpx.Response(200, json={"score": 1.0, "version": "grader-7", "rubric_version": 3})
        return httpx.Response(200, json={"output": "", "version": "search-1.2"})

    sections, without_secrets = training_sections(config), {"headers": {}}
    tools = [each.model_copy(update=without_secrets) for each in sections.tools.endpoints]
    grader = sections.grading.grader.model_copy(update=without_secrets)
    grading = sections.grading.model_copy(update={"grader": grader})
    transport = httpx.MockTransport(answer)
    told = asyncio.run(check_endpoints(tools, grading, base_url="http://localhost:1", transport=transport))
    assert told == {"tool look": "search-1.2", "grader toy": "grader-7", "rubric toy": "3"}


def test_a_run_with_other_tasks_goes_on_only_where_that_is_allowed(tmp_path: Path, config: RunConfig) -> None:
    run = tmp_path / "run"
    train(config, run_dir=run)
    first = json.loads((run / "manifest.json").read_text())
    assert first["versions"].keys() == NAMES
    assert first["run_hash"].startswith("sha256:")
    tasks = tmp_path / "train.jsonl"
    tasks.write_text(tasks.read_text().replace("train-3?", "train-3!"))
    longer = load_config(tmp_path / "toy.yaml", ["ppo.steps=2"])
    with pytest.raises(
        CheckpointError, match=r"versions\.dataset: 'sha256:.* \(8 train, 8 validation, 8 test tasks\)' in"
    ):
        train(longer, run_dir=run, resume=True)
    result = train(longer, run_dir=run, resume=True, allow_change=["versions.dataset"])
    assert result.summary["steps"] == 2
    (resumed,) = json.loads((run / "manifest.json").read_text())["resumed"]
    assert [change["key"] for change in resumed["changes"]] == ["ppo.steps", "versions.dataset"]
    assert resumed["run_hash"] != first["run_hash"]
