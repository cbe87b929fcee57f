"""A hosted job becomes a config that loads; nothing of it is lost without a word, and no secret is copied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.config import RunConfig, load_config
from agentrl.errors import ConfigError
from agentrl.grading import build_grader
from agentrl.importing import Imported, import_job, read_job

JOBS = Path(__file__).with_name("jobs")
SECRETS = ("demo-secret-7f31c2", "azure-secret-11aa22", "azure-secret-33bb44")


def job(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((JOBS / f"{name}.json").read_text())
    return body


def written(folder: Path, body: Any) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps(body))
    return path


def changed(name: str, **changes: Any) -> dict[str, Any]:
    """A job with other values below `method.reinforcement`."""
    body = job(name)
    body["method"]["reinforcement"].update(changes)
    return body


def with_rows(folder: Path, train: list[dict[str, Any]] | int, validation: list[dict[str, Any]] | int = 10) -> Path:
    for split, given in (("train", train), ("validation", validation)):
        rows = [row(f"{split} {n}") for n in range(given)] if isinstance(given, int) else given
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return folder


def row(question: str, **keys: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "reference_answer": "yes", **keys}


def loaded(imported: Imported, folder: Path) -> RunConfig:
    (folder / "out.yaml").write_text(imported.text)
    return load_config(folder / "out.yaml")


def settings(imported: Imported) -> dict[str, str]:
    """Hosted -> ours, of the mapping that is printed."""
    return {each.hosted: each.ours for each in imported.mapping}


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.json")), ids=lambda path: path.stem)
def test_t8_a_job_becomes_a_config_and_no_secret_is_copied(path: Path, tmp_path: Path) -> None:
    imported = import_job(path)
    config = loaded(imported, tmp_path)
    assert config.grading is not None
    assert config.workflow.reward_model == config.grading.name
    shown = imported.text + repr(imported)
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.json")), ids=lambda path: path.stem)
def test_the_grader_of_a_job_can_be_built(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = import_job(path)
    for name in ("OPENAI_API_KEY", *imported.variables):
        monkeypatch.setenv(name, "a-value")
    config = loaded(imported, tmp_path)
    assert config.grading is not None
    assert build_grader(config.grading).version.startswith("sha256:")


def test_a_request_with_bearer_tokens_and_fifty_steps(tmp_path: Path) -> None:
    imported = import_job(JOBS / "demo_hours.json", data=[str(with_rows(tmp_path, 100))])
    config = loaded(imported, tmp_path)
    assert config.name == "handbook-search"
    assert config.seed == 42
    assert config.tools is not None
    assert [tool.name for tool in config.tools.endpoints] == ["search", "list", "cat"]
    assert {tool.headers["Authorization"] for tool in config.tools.endpoints} == {"Bearer ${TOOLS_TOKEN}"}
    assert config.tools.endpoints[0].max_requests_per_second == 50
    assert config.grading is not None
    assert config.grading.grader.call_options["max_requests_per_second"] == 40
    assert imported.variables == {
        "TOOLS_TOKEN": tuple(f"Authorization of {name}" for name in ("search", "list", "cat", "handbook-grader"))
    }
    assert (config.rollout.max_tool_calls, config.rollout.max_turns) == (50, 52)
    assert (config.ppo.tasks_per_step, config.ppo.samples_per_task, config.ppo.steps) == (16, 4, 7)
    assert (config.evaluation.every_steps, config.evaluation.samples_per_item) == (5, 2)
    left_out = dict(imported.left_out)
    assert "integrations: wandb" in left_out
    assert left_out["method.reinforcement.tools[2].cache_seconds"].startswith("no key of hosted jobs, and left out")
    assert '# metadata: ticket = "OPS-118"' in imported.text
    assert imported.problems == ()


def test_a_returned_job_of_foundry(tmp_path: Path) -> None:
    imported = import_job(JOBS / "foundry.json", data=[str(with_rows(tmp_path, 100))])
    config = loaded(imported, tmp_path)
    assert config.grading is not None
    grader = config.grading.grader
    assert (grader.url, grader.headers) == (  # type: ignore[union-attr]
        "https://graders-demo.azurewebsites.net/api/grade",
        {"x-functions-key": "${GRADER_FUNCTIONS_KEY}"},
    )
    assert (config.grading.pass_threshold, config.grading.max_score) == (8, 10)
    assert set(imported.variables) == {"GRADER_FUNCTIONS_KEY", "TOOLS_FUNCTIONS_KEY"}
    assert settings(imported) == {
        "batch_size = auto": "ppo.tasks_per_step: 32",
        "n_epochs = 2": "ppo.steps: 7",
        "learning_rate_multiplier = 0.5": "ppo.learning_rate: 5e-06",
        "compute_multiplier = 1.5": "ppo.samples_per_task: 6",
        "eval_interval = 5": "evaluation.every_steps: 5, checkpoint.every_steps: 5",
        "eval_samples = 10": "evaluation.samples_per_item: 10, evaluation.periodic_samples_per_item: 10",
        "max_episode_steps = 10": "rollout.max_tool_calls: 10, rollout.max_turns: 12",
        "reasoning_effort = medium": "rollout.max_turn_tokens: 2048, rollout.max_context_tokens: 16384",
    }
    assert "response_format = json_schema answer" in dict(imported.left_out)
    assert any("tools search, get_by_id have one address" in each for each in imported.to_do)
    assert any("item_fields: none" in each and "reference_answer" in each for each in imported.to_do)


def test_both_forms_of_response_format_are_one() -> None:
    flat, nested = read_job(JOBS / "foundry.json"), read_job(JOBS / "python_grader.json")
    assert flat.response_format is not None
    assert nested.response_format is not None
    assert flat.response_format.keys() == nested.response_format.keys() == {"type", "json_schema"}
    assert flat.response_format["json_schema"].keys() == {"name", "strict", "schema"}


def test_a_python_grader_keeps_its_source_to_the_letter(tmp_path: Path) -> None:
    config = loaded(import_job(JOBS / "python_grader.json"), tmp_path)
    assert config.grading is not None
    source = job("python_grader")["method"]["reinforcement"]["grader"]["source"]
    assert config.grading.grader.source == source  # type: ignore[union-attr]
    assert config.tools is not None
    assert config.tools.endpoints == ()
    assert config.rollout.max_tool_calls == 0


def test_the_range_of_a_judge_becomes_that_of_the_scores(tmp_path: Path) -> None:
    config = loaded(import_job(JOBS / "score_model.json"), tmp_path)
    assert config.grading is not None
    assert (config.grading.min_score, config.grading.max_score, config.grading.pass_threshold) == (0, 10, 7)
    assert config.ppo.samples_per_task == 2  # 0.1 x 4, but a sample alone cannot be compared
    assert config.ppo.learning_rate == 2.0e-5


def test_parts_of_multi_may_be_a_list_or_a_mapping(tmp_path: Path) -> None:
    for name, parts in (("multi_list", ["exact", "remote"]), ("multi_mapping", ["exact", "close"])):
        config = loaded(import_job(JOBS / f"{name}.json"), tmp_path)
        assert config.grading is not None
        assert list(config.grading.grader.graders) == parts  # type: ignore[union-attr]


def test_a_variable_that_is_named_already_keeps_its_name() -> None:
    assert import_job(JOBS / "multi_list.json").variables == {"GRADER_KEY": ("Authorization of remote",)}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Authorization": "Bearer abc"}, {"Authorization": "Bearer ${SEARCH_TOKEN}"}),
        ({"Authorization": "abc def"}, {"Authorization": "${SEARCH_TOKEN}"}),
        ({"api-key": "abc", "X-Api-Key": "d"}, {"api-key": "${SEARCH_API_KEY}", "X-Api-Key": "${SEARCH_API_KEY_2}"}),
        ({"X-Tenant": "contoso"}, {"X-Tenant": "${SEARCH_TENANT}"}),
        ({"Accept": "text/x", "Content-Type": "text/x"}, {"Accept": "text/x", "Content-Type": "text/x"}),
        ({"Accept": "${HOME}"}, {"Accept": "${HOME}"}),
        ({"Accept": "a ${HOME}"}, {"Accept": "${SEARCH_ACCEPT}"}),
        ({"Authorization": "Bearer abc${X}"}, {"Authorization": "Bearer ${SEARCH_TOKEN}"}),
        ({"Authorization": "bearer ${MY_KEY}"}, {"Authorization": "bearer ${MY_KEY}"}),
    ],
)  # fmt: skip
def test_t8_only_harmless_headers_are_copied(headers: dict[str, str], expected: dict[str, str], tmp_path: Path) -> None:
    tools = [{"name": "search", "server_url": "https://a.example/s", "headers": headers}]
    config = loaded(import_job(written(tmp_path, changed("foundry", tools=tools))), tmp_path)
    assert config.tools is not None
    assert config.tools.endpoints[0].headers == expected


def test_t8_a_secret_that_stands_elsewhere_too_stops_the_import(tmp_path: Path) -> None:
    body = job("demo_hours")
    body["metadata"]["note"] = f"the key is {SECRETS[0]}"
    with pytest.raises(ConfigError, match="also stands in another part of the job") as caught:
        import_job(written(tmp_path, body))
    assert SECRETS[0] not in str(caught.value)


def test_t8_a_secret_in_an_address_is_refused_and_not_shown(tmp_path: Path) -> None:
    tools = [{"name": "search", "server_url": "https://a.example/s?api_key=hidden-value"}]
    with pytest.raises(ConfigError, match=r"search: found api_key in its address \(not shown\)") as caught:
        import_job(written(tmp_path, changed("foundry", tools=tools)))
    assert "hidden-value" not in str(caught.value)
    headers = {"X-Functions-Key": "hidden-header"}
    tools = [{"name": "search", "server_url": "https://a.example/s?code=hidden-value", "headers": headers}]
    with pytest.raises(ConfigError, match=r"json: search: .* beside the header X-Functions-Key, which is") as caught:
        import_job(written(tmp_path, changed("foundry", tools=tools)))
    assert "hidden" not in str(caught.value).replace(str(tmp_path), "")


def test_t8_a_key_that_is_nearly_a_hosted_one_is_told_with_the_one_that_is_meant(tmp_path: Path) -> None:
    body = job("foundry")
    reinforcement = body["method"]["reinforcement"]
    reinforcement["max_episode_step"] = reinforcement.pop("max_episode_steps", 10)
    imported = import_job(written(tmp_path, body))
    told = next(each for each in imported.left_out if each.what == "method.reinforcement.max_episode_step")
    assert told.instead.endswith("; did you mean 'max_episode_steps'?")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"method": {"type": "supervised"}}, "method.type: found 'supervised'; allowed: reinforcement; `agentrl sft`"),
        ({"method": {"type": "dpo", "dpo": {}}}, "found 'dpo'; allowed: reinforcement; `agentrl dpo`"),
        ({"method": {"type": "grpo"}}, "found 'grpo'; allowed: reinforcement"),
        ({"model": "m", "training_file": "f"}, "found no method; a job without method is one of supervised"),
        ({"object": "list", "data": []}, "found a list of jobs; save one of them"),
        ([], "found a list; allowed: a job, an object"),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement: found null; allowed: an object with grader"),
    ],
)
def test_other_things_are_refused_with_a_hint(body: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, body)
    with pytest.raises(ConfigError) as caught:
        read_job(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def wrong_values() -> Iterator[tuple[dict[str, Any], str]]:
    under = "method.reinforcement"
    for key, value, allowed in (
        ("batch_size", 257, "from 1 to 256"),
        ("batch_size", "16", "auto, or a whole number"),
        ("n_epochs", 0, "from 1 to 50"),
        ("learning_rate_multiplier", -1, "a number above 0"),
        ("compute_multiplier", 11, "at most 10"),
        ("eval_interval", True, "a whole number of at least 1"),
        ("eval_samples", 1.5, "a whole number of at least 1"),
        ("reasoning_effort", "huge", "default, minimal, low, medium, high"),
    ):
        hyperparameters = {key: value}
        yield changed("foundry", hyperparameters=hyperparameters), f"{under}.hyperparameters.{key}: found {value!r}"
        yield changed("foundry", hyperparameters=hyperparameters), allowed
    yield changed("foundry", tools=[{"name": "a"}]), f"{under}.tools[0].server_url: missing; it is required"
    tool = {"name": "a", "server_url": "https://a.example"}
    yield changed("foundry", tools=[tool, tool]), f"{under}.tools[1].name: found 'a' a second time"
    yield changed("foundry", tools=[{**tool, "headers": {"k": 1}}]), "tools[0].headers: found an object; allowed"
    yield (
        changed("foundry", tools=[{**tool, "server_url": "ftp://a"}]),
        f"{under}.tools[0].server_url: found the text 'ftp://a'",
    )
    yield changed("foundry", response_format={"type": "json_schema"}), f"{under}.response_format: found no schema"
    yield (
        changed("foundry", grader={"type": "stringcheck"}),
        f"{under}.grader.type: found 'stringcheck'; allowed",
    )
    part = {"type": "string_check", "input": "a", "reference": "b", "operation": "equals"}
    multi = {"type": "multi", "graders": {"a": part}, "calculate_output": "a"}
    yield changed("foundry", grader=multi), f"{under}.grader.graders.a.operation: found the text 'equals'; allowed"
    nested = {"type": "multi", "graders": {"a": multi}, "calculate_output": "a"}
    yield changed("foundry", grader=nested), f"{under}.grader.graders.a.type: found 'multi'; allowed: string_check"
    nameless = {"type": "multi", "graders": [{**part, "operation": "eq"}], "calculate_output": "a"}
    yield changed("foundry", grader=nameless), f"{under}.grader.graders: found parts without names"
    yield changed("foundry", grader={"type": "reward_model", "path": "/"}), f"{under}.grader.type: found 'reward_model'"
    yield changed("foundry", grader=None), f"{under}.grader: missing; it is required: an object with type"
    yield {**job("foundry"), "suffix": "x" * 65}, "suffix: found 65 characters; allowed: at most 64"
    yield {**job("foundry"), "seed": "1"}, "seed: found '1'; allowed: a whole number of at least 0"


@pytest.mark.parametrize(("body", "message"), list(wrong_values()))
def test_a_wrong_value_is_named_where_it_stands_in_the_job(body: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, body)
    with pytest.raises(ConfigError) as caught:
        import_job(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    body = changed("foundry", max_episode_steps=0, hyperparameters={"batch_size": 0, "n_epochs": 99})
    with pytest.raises(ConfigError, match=r"job\.json: 3 mistakes"):
        import_job(written(tmp_path, body))


def test_what_is_not_json_is_named_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{\n  "model": "m",\n  "seed": 1,,\n}')
    with pytest.raises(ConfigError, match=r"job\.json:3:13: not JSON: "):
        read_job(path)
    path.write_text('{"model": "m", "model": "n"}')
    with pytest.raises(ConfigError, match=r"job\.json: not JSON: .*model"):
        read_job(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_job(tmp_path / "none.json")


def test_data_is_found_by_id_by_path_and_by_the_name_of_its_split(tmp_path: Path) -> None:
    rows = with_rows(tmp_path, 12)
    by_split = import_job(JOBS / "foundry.json", data=[str(rows)])
    assert f"train: {rows}/train.jsonl" in by_split.text
    (tmp_path / "file-a1b2c3.jsonl").write_bytes((rows / "train.jsonl").read_bytes())
    assert f"train: {rows}/file-a1b2c3.jsonl" in import_job(JOBS / "foundry.json", data=[str(rows)]).text
    by_id = import_job(JOBS / "foundry.json", data=[f"file-d4e5f6={rows}/validation.jsonl"])
    assert f"validation: {rows}/validation.jsonl" in by_id.text
    assert "train: data/file-a1b2c3.jsonl" in by_id.text
    assert any(each.startswith("data.train: file-a1b2c3 is not here") for each in by_id.to_do)
    by_path = {**job("foundry"), "training_file": str(rows / "train.jsonl")}
    assert f"train: {rows}/train.jsonl" in import_job(written(tmp_path, by_path)).text
    with pytest.raises(ConfigError, match="--data nowhere: no such folder; allowed: a folder, or FILE_ID=FILE"):
        import_job(JOBS / "foundry.json", data=["nowhere"])


def problems(folder: Path, train: Any, validation: Any = 10, name: str = "multi_mapping", **changes: Any) -> Imported:
    body = changed(name, **changes)
    return import_job(written(folder, body), data=[str(with_rows(folder, train, validation))])


def test_data_that_would_stop_a_training_is_a_problem(tmp_path: Path) -> None:
    (broken,) = problems(tmp_path, [{"messages": []}]).problems
    assert "train.jsonl:1: found messages: an empty list" in broken
    (overlap,) = problems(tmp_path, 12, [row("train 3")]).problems
    assert "splits overlap" in overlap
    lacking = [{"messages": [{"role": "user", "content": f"q{n}"}], "reference_answer": "x"} for n in range(11)]
    del lacking[4]["reference_answer"]
    (unread,) = problems(tmp_path, lacking).problems
    assert "row 5 has no item.reference_answer" in unread


def test_data_that_is_odd_is_remarked_on(tmp_path: Path) -> None:
    system = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "reference_answer": 1}
    found = problems(tmp_path, [system]).to_do
    assert any("train.jsonl: 1 rows; hosted jobs need 10" in each for each in found)
    assert any("1 rows have a system message" in each for each in found)


def test_tools_in_rows_are_compared_with_those_of_the_job(tmp_path: Path) -> None:
    described = [{"type": "function", "function": {"name": name}} for name in ("search", "look")]
    described += [{"name": "get_by_id", "server_url": "https://b.example/", "headers": {"key": "hidden-value"}}]
    imported = problems(tmp_path, [row("q", tools=described)], name="foundry")
    found = " ".join(imported.to_do)
    assert "rows describe tools that the job lacks: look" in found
    assert "rows give another server_url for get_by_id; the job's is taken" in found
    assert "rows hold headers of tools" in found
    assert "hidden-value" not in imported.text + repr(imported)
    assert "nothing describes" not in found
    bare = " ".join(problems(tmp_path, 12, name="foundry").to_do)
    assert "nothing describes search, get_by_id to the policy" in bare


def test_tools_of_one_host_with_different_headers_are_remarked_on(tmp_path: Path) -> None:
    tools = deepcopy(job("demo_hours")["method"]["reinforcement"]["tools"])
    tools[1]["headers"] = {"Authorization": "Bearer another-secret"}
    imported = import_job(written(tmp_path, changed("demo_hours", tools=tools)))
    assert any("of tools.example.com have different headers" in each for each in imported.to_do)
    assert set(imported.variables) == {"TOOLS_TOKEN", "LIST_TOKEN"}


def test_a_small_batch_has_as_many_minibatches_as_rollouts(tmp_path: Path) -> None:
    hyperparameters = {"batch_size": 1, "compute_multiplier": 0.5}
    config = loaded(import_job(written(tmp_path, changed("foundry", hyperparameters=hyperparameters))), tmp_path)
    assert (config.ppo.tasks_per_step, config.ppo.samples_per_task, config.ppo.minibatches) == (1, 2, 2)


def test_the_context_is_what_the_baseline_can_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    config = loaded(import_job(JOBS / "foundry.json", baseline=str(tmp_path)), tmp_path)
    assert (config.rollout.max_context_tokens, config.rollout.max_turn_tokens) == (512, 256)


def test_t4_a_job_cannot_loosen_what_protects_this_machine(tmp_path: Path) -> None:
    source = "def grade(sample, item):\n    return 1.0\n"
    grader = {"type": "python", "source": source, "sandbox": "unisolated", "workers": 500}
    tools = [{"name": "search", "server_url": "https://a.example/s", "allow_private": True, "item_fields": "none"}]
    imported = import_job(written(tmp_path, changed("foundry", grader=grader, tools=tools)))
    config = loaded(imported, tmp_path)
    assert config.grading is not None
    assert config.tools is not None
    assert (config.grading.grader.sandbox, config.grading.grader.workers) == ("auto", 2)  # type: ignore[union-attr]
    assert (config.tools.endpoints[0].allow_private, config.tools.endpoints[0].item_fields) == (False, "all")
    left_out = {what for what, _ in imported.left_out}
    under = "method.reinforcement"
    assert {f"{under}.grader.sandbox", f"{under}.grader.workers", f"{under}.tools[0].allow_private"} <= left_out


def test_a_variable_that_the_job_asks_for_and_that_is_set_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADER_KEY", "mine")
    (first, *_) = import_job(JOBS / "multi_list.json").to_do
    assert first == "${GRADER_KEY} is set here already and will be sent as Authorization of remote: is that meant?"
    monkeypatch.delenv("GRADER_KEY")
    assert not any("is set here already" in each for each in import_job(JOBS / "multi_list.json").to_do)


def test_what_graders_need_here_is_said(tmp_path: Path) -> None:
    source = "import nowhere_to_be_found.part, math\n\ndef grade(sample, item):\n    return 1.0\n"
    imported = import_job(written(tmp_path, changed("python_grader", grader={"type": "python", "source": source})))
    assert any("imports nowhere_to_be_found, which are not installed here" in each for each in imported.to_do)
    assert any("asks gpt-4o-2024-08-06 at " in each for each in import_job(JOBS / "score_model.json").to_do)
    assert any("fuzzy_match may differ a little" in each for each in import_job(JOBS / "multi_mapping.json").to_do)


def test_keys_that_nobody_knows_are_listed(tmp_path: Path) -> None:
    body = changed("score_model", curriculum="easy first", hyperparameters={"beta": 0.1})
    body["method"]["reinforcement"]["grader"]["temperature"] = 1
    left_out = dict(import_job(written(tmp_path, body)).left_out)
    assert "method.reinforcement.curriculum" in left_out
    assert "method.reinforcement.hyperparameters.beta" in left_out
    assert "method.reinforcement.grader.temperature" in left_out


def test_empty_texts_of_a_client_are_nothing(tmp_path: Path) -> None:
    body = {**job("foundry"), "suffix": "", "validation_file": ""}
    imported = import_job(written(tmp_path, body))
    assert any(each.startswith("data.validation: hosted jobs may do without") for each in imported.to_do)
    with pytest.raises(ConfigError, match="training_file: missing; it is required"):
        import_job(written(tmp_path, {**body, "training_file": ""}))


def test_text_of_a_job_cannot_break_out_of_a_comment(tmp_path: Path) -> None:
    body = {**job("foundry"), "model": "m\nevil: true", "metadata": {"a\u2028b: c\n- d": "e\rf"}}
    imported = import_job(written(tmp_path, body))
    assert loaded(imported, tmp_path).grading is not None
    assert "evil" not in yaml.safe_load(imported.text)


@pytest.mark.parametrize("address", ["https://a.example/?a=1;key=hidden-9", "https://a.example/#token=hidden-9"])
def test_a_secret_anywhere_in_an_address_is_refused(tmp_path: Path, address: str) -> None:
    body = changed("demo_hours", tools=[{"name": "search", "server_url": address}])
    with pytest.raises(ConfigError, match="in its address") as caught:
        import_job(written(tmp_path, body))
    assert "hidden-9" not in str(caught.value)


def test_metadata_that_calls_itself_a_secret_is_not_copied(tmp_path: Path) -> None:
    text = import_job(
        written(tmp_path, {**job("demo_hours"), "metadata": {"api_key": "hidden-9", "owner": "ana"}})
    ).text
    assert "# metadata: api_key = (not shown)" in text
    assert '# metadata: owner = "ana"' in text
    assert "hidden-9" not in text


def test_a_job_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    deep = json.loads('{"a":' * 900 + "1" + "}" * 900)
    tools = [{"name": "search", "server_url": "https://a.example/", "parameters": deep}]
    with pytest.raises(ConfigError, match="nested too deeply"):
        import_job(written(tmp_path, changed("demo_hours", tools=tools)))


def test_what_a_job_says_does_not_command_the_terminal(tmp_path: Path) -> None:
    tools = [{"name": "\x1b[2Jsearch\u202e", "server_url": "https://a.example/"}]
    path = written(tmp_path, changed("demo_hours", tools=tools))
    told = CliRunner().invoke(app, ["import", "openai", str(path), "--out", str(tmp_path / "run.yaml")])
    assert told.exit_code == 2
    assert "[2Jsearch" in told.output
    assert "\x1b" not in told.output
    assert "\u202e" not in told.output
