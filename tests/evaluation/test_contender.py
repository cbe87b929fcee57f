"""Which policy is meant, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrl.config import load_config
from agentrl.errors import ConfigError
from agentrl.evaluation.contender import PolicySource, from_anywhere, open_contender, served
from tests.scripted_api import ScriptedApi, completion
from tests.toy_run import toy_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that kept the policies of steps 5 and 10, and a checkpoint of step 20."""
    for name in ("best", "policy-000005", "policy-000010", "step-000020/policy"):
        (tmp_path / "run/checkpoints" / name).mkdir(parents=True)
    (tmp_path / "run/manifest.json").write_text("{}")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("which", "folder"),
    [
        ("best", "checkpoints/best"),
        ("final", "checkpoints/step-000020/policy"),
        ("20", "checkpoints/step-000020/policy"),
        ("5", "checkpoints/policy-000005"),
        ("010", "checkpoints/policy-000010"),
    ],
)
def test_a_run_and_what_of_it_is_meant(run: Path, which: str, folder: str) -> None:
    source = PolicySource.find(f"{run}@{which}")
    assert (source.kind, source.folder, source.name) == ("checkpoint", run / folder, f"{run}@{which}")


def test_the_baseline_has_no_folder(run: Path) -> None:
    assert PolicySource.find().folder is None
    assert PolicySource.find(f"{run}@baseline").kind == "baseline"


def test_a_folder_is_taken_as_it_is_and_a_checkpoints_policy_in_it(run: Path) -> None:
    assert PolicySource.find(str(run / "checkpoints/best")).folder == run / "checkpoints/best"
    assert PolicySource.find(str(run / "checkpoints/step-000020")).folder == run / "checkpoints/step-000020/policy"
    odd = run.parent / "a@b"
    odd.mkdir()
    assert PolicySource.find(str(odd)).folder == odd  # a folder may be called so


@pytest.mark.parametrize("which", ["7", "last", "", "-1", "../best"])
def test_weights_that_are_not_there_are_refused_with_those_that_are(run: Path, which: str) -> None:
    with pytest.raises(ConfigError, match="the steps whose weights are kept: 5, 10, 20"):
        PolicySource.find(f"{run}@{which}")


@pytest.mark.parametrize("text", ["nowhere", "nowhere@best", "", "@best"])
def test_what_is_no_policy_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no such folder; allowed: baseline|holds no run"):
        PolicySource.find(text)


def test_a_run_alone_is_no_policy(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a run; say which of its policies, such as .*run@best"):
        PolicySource.find(str(run))


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    server = ScriptedApi(lambda _: completion("yes"))
    yield server
    server.close()


def test_an_api_model_is_told_of_by_its_server_and_needs_no_baseline(tmp_path: Path, api: ScriptedApi) -> None:
    toy_run(tmp_path, tmp_path / "no baseline")
    config = load_config(tmp_path / "toy.yaml")

    async def look(base_url: str) -> None:
        async with open_contender(config, PolicySource.of_api("gpt-x", api.url), base_url) as contender:
            host = api.url.split("/")[2]
            assert contender.policy == {
                "kind": "api",
                "name": "gpt-x",
                "model": "gpt-x",
                "host": host,
                "served": ["scripted-2026-01"],
            }
            assert contender.versions["model"] == f"gpt-x at {host} (served: scripted-2026-01)"
            assert contender.versions["tokenizer"] is None
            assert contender.network is None
            before = contender.conditions(contender.splits.validation)
            assert before["tasks"] != contender.conditions(contender.splits.test)["tasks"]
            assert "gpt-x" not in str(before)  # who is measured is no condition

    with served(config) as base_url:
        asyncio.run(look(base_url))


def test_a_coroutine_runs_to_its_end_from_anywhere() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def notebook() -> int:
        return from_anywhere(answer)

    assert from_anywhere(answer) == asyncio.run(notebook()) == 42
