"""`agentrl eval`, `agentrl suite`, and the options that say whose rollouts are made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from agentrl.cli.eval import evaluate
from agentrl.cli.exits import Verbs
from agentrl.cli.policy_options import policy_source
from agentrl.cli.rollouts import rollouts
from agentrl.cli.suite import suite
from agentrl.config import load_config
from agentrl.data.tasks import load_tasks
from agentrl.errors import ConfigError
from agentrl.evaluation.conditions import tasks_digest
from agentrl.evaluation.evaluate_policy import EvalOptions, evaluate_policy
from agentrl.evaluation.evaluation_files import read_evaluation
from agentrl.evaluation.run_evaluations import find_evaluation
from agentrl.rollout import api_address
from agentrl.rollout.turns import derive_seed
from agentrl.types import FailureClass
from tests.engine_fixtures import chance_policy, make_tokenizer
from tests.scripted_api import Answer, ScriptedApi, completion, in_turns, turn_of

app = typer.Typer(cls=Verbs, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("eval")(evaluate)
app.command("rollouts")(rollouts)
app.add_typer(suite, name="suite")

LOOK = ("look", {"key": "a"})


def yes_for_even(body: dict[str, Any]) -> Answer:
    """Looks once; then it is right about even items."""
    if turn_of(body) == 0:
        return completion(None, LOOK, prompt=40, output=11, thought=6)
    question = next(each["content"] for each in body["messages"] if each["role"] == "user")
    return completion("yes" if int(question.split()[1].rstrip("?")) % 2 == 0 else "maybe", prompt=60, output=3)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedApi]:
    monkeypatch.setattr(api_address, "RETRIES", 0)
    monkeypatch.setenv("SCRIPTED_KEY", "sk-very-secret")
    server = ScriptedApi(yes_for_even, key="sk-very-secret")
    yield server
    server.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def run_api(api: ScriptedApi, *arguments: str, out: str = "out/api.json") -> Result:
    options = ["--api-model", "gpt-x", "--api-url", api.url, "--api-key-env", "SCRIPTED_KEY"]
    return run("eval", "toy.yaml", "--out", out, *options, *arguments)


PRICES = ["--set", "rollout.prices.usd_per_million_sampled_tokens=1000"]


def test_an_api_model_is_measured_without_the_baseline(toy: Path, api: ScriptedApi) -> None:
    result = run_api(api, "--set", "workflow.baseline=nowhere", "--json", *PRICES)
    assert (result.exit_code, api.preflights) == (0, 1)
    found = json.loads(result.stdout)
    assert (found["n_items"], found["samples_per_item"], found["rollouts"]) == (3, 2, 6)
    assert found["figures"]["reward"]["value"] == pytest.approx(2 / 3)
    low, high = found["figures"]["reward"]["interval"]
    assert low <= 2 / 3 <= high
    assert found["figures"]["cost_per_success_usd"]["value"] == pytest.approx(14 * 1e-3 * 3 / 2)
    assert found["figures"]["reasoning_tokens"]["value"] == 6
    assert found["pass_at_k"]["2"]["value"] == pytest.approx(2 / 3)
    kept = read_evaluation(toy / "out/api.json")
    assert kept.policy["kind"] == "api"
    assert (kept.policy["model"], kept.policy["served"]) == ("gpt-x", ["scripted-2026-01"])
    assert kept.policy["host"] == api.url.split("/")[2]
    assert kept.report.reward == pytest.approx(2 / 3)
    assert kept.conditions["tasks"] == tasks_digest(rollout.task for rollout in kept.rollouts)
    assert sorted(path.name for path in (toy / "out").iterdir()) == ["api.json", "api.rollouts.jsonl.gz"]


def test_what_people_see(toy: Path, api: ScriptedApi) -> None:
    result = run_api(api, *PRICES)
    for expected in (
        "gpt-x on validation: 3 items x 2 samples",
        "reward                   0.667",
        "    look                    1.00",
        "cost per success",
        "pass@2",
        "pass^2",
        "ended by: final 6",
        "out/api.json",
    ):
        assert expected in result.stdout
    assert "rolling out 3 items x 2" in result.stderr
    assert "tools without a description: look" not in result.stdout


def test_the_key_is_nowhere(toy: Path, api: ScriptedApi, caplog: pytest.LogCaptureFixture) -> None:
    api.say = lambda _: completion(f"you sent {api.headers[-1]['authorization']}")
    result = run_api(api)
    files = b"".join(path.read_bytes() for path in (toy / "out").iterdir() if path.suffix == ".json")
    traces = " ".join(rollout.answer for rollout in read_evaluation(toy / "out/api.json").rollouts)
    assert "[secret]" in traces
    assert "very-secret" not in result.output + caplog.text + files.decode() + traces


def test_a_wrong_key_stops_at_once(toy: Path, api: ScriptedApi) -> None:
    api.key = "sk-another"
    result = run_api(api)
    assert (result.exit_code, result.stdout, api.bodies) == (2, "", [])
    assert "answered 401" in result.stderr
    assert "check the key in $SCRIPTED_KEY" in result.stderr
    assert "very-secret" not in result.stderr
    assert not list((toy / "out").iterdir())


def test_a_dead_api_ends_with_what_is_missing_and_goes_on_later(toy: Path, api: ScriptedApi) -> None:
    def half(body: dict[str, Any]) -> Answer:
        question = next(each["content"] for each in body["messages"] if each["role"] == "user")
        return yes_for_even(body) if "0?" in question else (503, {"error": "out of order"})

    api.say = half
    impatient = ["--set", "ppo.guards.max_outage_seconds=0.1", "--set", "inference.retries=0"]
    result = run_api(api, *impatient)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "4 of 6 rollouts are lost to infrastructure" in result.stderr
    assert "the same command goes on" in result.stderr
    assert [path.name for path in (toy / "out").iterdir()] == ["api.partial.jsonl"]
    asked = len(api.bodies)
    api.say = yes_for_even
    assert "of another measurement, which differs in seed" in run_api(api, *impatient, "--seed", "4").stderr
    again = run_api(api, *impatient)
    assert (again.exit_code, len(api.bodies) - asked) == (0, 8)  # two turns of each that was lost
    assert "going on with 2 rollouts" in again.stderr
    assert not (toy / "out/api.partial.jsonl").exists()
    whole = run_api(api, *impatient, out="whole.json")
    assert whole.exit_code == 0
    one, other = read_evaluation(toy / "out/api.json"), read_evaluation(toy / "whole.json")
    assert [(each.task.id, each.sample_index, each.seed) for each in one.rollouts] == [
        (each.task.id, each.sample_index, each.seed) for each in other.rollouts
    ]


def test_requests_that_are_refused_are_not_waited_for(toy: Path, api: ScriptedApi) -> None:
    api.say = in_turns(completion(None, LOOK), (400, {"error": "no tool messages, please"}))
    result = run_api(api, "--items", "1", "--samples", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "1 of 1 rollouts cannot be graded" in result.stderr
    assert "no tool messages, please" in result.stderr
    assert "no wait mends that" in result.stderr


@pytest.mark.slow
def test_policies_of_any_kind_are_measured_under_the_same_conditions(toy: Path, api: ScriptedApi) -> None:
    chance_policy(make_tokenizer(), favoured=("yes", "<|im_end|>")).save_pretrained(toy / "better" / "policy")
    options = ["--items", "2", "--samples", "1"]
    assert run("eval", "toy.yaml", "--out", "a.json", *options).exit_code == 0
    result = run("eval", "toy.yaml", "--out", "b.json", "--policy", "better", *options)
    assert "better on validation: 2 items x 1 sample" in result.stdout
    a, b = find_evaluation("a.json"), find_evaluation("b.json")
    assert (a.policy["kind"], b.policy["kind"]) == ("baseline", "checkpoint")
    assert a.policy["digest"] != b.policy["digest"]
    assert run_api(api, *options, out="c.json").exit_code == 0
    assert a.conditions == b.conditions == find_evaluation("c.json").conditions
    assert [each.seed for each in a.rollouts] == [each.seed for each in b.rollouts]
    assert a.rollouts[0].seed == derive_seed("17/validation", a.rollouts[0].task.id, 0)  # as a run draws it
    assert all(not each.tool_calls for each in b.rollouts)  # it says yes, and stops


def test_an_evaluation_is_not_overwritten_unless_asked(toy: Path, api: ScriptedApi) -> None:
    assert run_api(api, "--items", "1").exit_code == 0
    refused = run_api(api, "--items", "2")
    assert (refused.exit_code, "is there already" in refused.stderr) == (2, True)
    assert run_api(api, "--items", "2", "--force").exit_code == 0
    assert read_evaluation(toy / "out/api.json").report.n_items == 2


def tagged(toy: Path) -> None:
    rows = [json.loads(line) for line in (toy / "validation.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        row["tags"] = ["even", "first"] if index == 0 else ["even"] if index % 2 == 0 else ["odd"]
    (toy / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_suite_is_measured_as_it_was_frozen(toy: Path, api: ScriptedApi) -> None:
    tagged(toy)
    frozen = run("suite", "freeze", "toy.yaml", "--out", "suites/toy.json", "--version", "v1")
    assert (frozen.exit_code, frozen.stderr) == (0, "")
    assert "suites/toy.json: toy v1, 3 items of toy's validation" in frozen.stdout
    assert "tags   even 2, first 1, odd 1" in frozen.stdout
    assert json.loads(run("suite", "show", "suites/toy.json", "--json").stdout)["n_items"] == 3
    on_split = load_tasks(load_config("toy.yaml").data).validation  # type: ignore[arg-type]
    (toy / "validation.jsonl").write_text('{"messages": [{"role": "user", "content": "another 1?"}]}\n')
    result = run_api(api, "--suite", "suites/toy.json")
    assert result.exit_code == 0
    assert "gpt-x on suite toy v1 (" in result.stdout
    assert "3 subsets looked at" in result.stdout
    assert "98.33% interval" in result.stdout
    kept = read_evaluation(toy / "out/api.json")
    assert kept.conditions["tasks"] == tasks_digest(on_split)
    assert kept.selection["suite"]["digest"] == json.loads((toy / "suites/toy.json").read_text())["digest"]

    one = run_api(api, "--suite", "suites/toy.json", "--tag", "odd", "--force", "--json")
    assert json.loads(one.stdout)["n_items"] == 1
    assert json.loads(one.stdout)["tags_looked_at"] == 3  # there were three to choose from
    items = toy / "suites/toy.items.jsonl"
    items.write_text(items.read_text().replace("validation 1?", "validation 2?"))
    changed = run_api(api, "--suite", "suites/toy.json", "--force")
    assert changed.exit_code == 2
    assert "found digest" in changed.stderr
    assert run("suite", "freeze", "toy.yaml", "--out", "suites/toy.json").exit_code == 2


def test_a_suite_that_was_trained_on_is_refused(toy: Path, api: ScriptedApi) -> None:
    assert run("suite", "freeze", "toy.yaml", "--out", "toy.json").exit_code == 0
    (toy / "train.jsonl").write_text((toy / "validation.jsonl").read_text())
    (toy / "validation.jsonl").write_text('{"id": "x", "messages": [{"role": "user", "content": "another 1?"}]}\n')
    result = run_api(api, "--suite", "toy.json")
    assert (result.exit_code, api.bodies) == (2, [])
    assert "3 tasks of suite toy and train share ids" in result.stderr
    allowed = run_api(api, "--suite", "toy.json", "--samples", "1", "--allow-contamination", out="known.json")
    assert allowed.exit_code == 0
    assert "was trained on, so it measures memory: 3 tasks of suite toy and train share ids" in allowed.stderr
    assert "share ids" in read_evaluation(toy / "known.json").selection["contamination"][0]
    (toy / "train.jsonl").unlink()  # then nobody can tell
    assert run_api(api, "--suite", "toy.json", "--samples", "1").exit_code == 0


def test_the_test_split_says_that_it_is_for_one_look(toy: Path, api: ScriptedApi) -> None:
    rows = '{"id": "t", "messages": [{"role": "user", "content": "test 2?"}]}\n'
    (toy / "test.jsonl").write_text(rows)
    result = run_api(api, "--split", "test", "--set", "data.test=test.jsonl")
    assert "1 item x 1 sample\n" in result.stdout
    assert "what was chosen by it, it measures no more" in result.stdout


def test_training_tasks_say_so_as_a_split_and_as_a_suite(toy: Path, api: ScriptedApi) -> None:
    assert run("suite", "freeze", "toy.yaml", "--split", "train", "--out", "train.json").exit_code == 0
    assert "show what it remembers" in run_api(api, "--suite", "train.json").stdout
    assert "show what it remembers" in run_api(api, "--split", "train", "--force").stdout


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--split", "tests"], "found 'tests'; allowed: train, validation, test"),
        (["--split", "test"], "no such tasks"),
        (["--tag", "hard"], "tag 'hard': no item has it"),
        (["--suite", "toy.yaml"], "toy.yaml: is no suite"),
        (["--suite", "toy.yaml", "--split", "test"], "--suite and --split: found both"),
        (["--suite", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--policy", "baseline"], "--policy and --api-model: found both"),
        (["--out", "out"], "ends in .json"),
        (["--out", "toy.yaml/x.json"], "cannot be made"),
    ],
)
def test_what_cannot_be_measured_exits_2(toy: Path, api: ScriptedApi, arguments: list[str], found: str) -> None:
    result = run_api(api, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert found in result.stderr
    assert not api.bodies


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("nowhere", None, None, None), "--policy nowhere: no such folder; allowed: baseline"),
        (("nowhere@best", None, None, None), "--policy nowhere@best: nowhere holds no run"),
        (("", None, None, None), "--policy "),
        ((None, "m", None, None), "--api-model m: found no --api-url"),
        ((None, None, "http://127.0.0.1:1", None), "--api-url: says where an API is, but not which model"),
        ((None, None, None, "KEY"), "--api-key-env: says where"),
        (("baseline", "m", "http://127.0.0.1:1", None), "found both"),
        ((None, "m", "http://127.0.0.1:1", "UNSET_KEY"), "'UNSET_KEY' is not set"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: tuple[Any, ...], found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy_source(*options)
    assert found in str(caught.value)


def test_a_notebook_measures_too_and_loads_no_torch_for_an_api(toy: Path, api: ScriptedApi) -> None:
    source = policy_source(None, "gpt-x", api.url, "SCRIPTED_KEY")

    async def in_a_notebook() -> Any:
        return evaluate_policy(load_config("toy.yaml"), policy=source, options=EvalOptions(samples=1))

    import asyncio

    assert asyncio.run(in_a_notebook()).report.reward == pytest.approx(2 / 3)
    program = (
        "import sys\n"
        "from agentrl.config import load_config\n"
        "from agentrl.evaluation.contender import PolicySource\n"
        "from agentrl.evaluation.evaluate_policy import EvalOptions, evaluate_policy\n"
        f"source = PolicySource.of_api('gpt-x', {api.url!r}, 'SCRIPTED_KEY')\n"
        "found = evaluate_policy(load_config('toy.yaml'), policy=source, options=EvalOptions(samples=1))\n"
        "print(len(found.rollouts), 'torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "3 False False\n", done.stderr


def test_rollouts_of_an_api_model_are_shown_turn_by_turn(toy: Path, api: ScriptedApi) -> None:
    options = ["--api-model", "gpt-x", "--api-url", api.url, "--api-key-env", "SCRIPTED_KEY"]
    result = run("rollouts", "toy.yaml", "-n", "1", *options)
    assert result.exit_code == 0
    for expected in ("turn 1: 11 tokens", 'calls     look {"key": "a"}', "gets      yes is right", "says      yes"):
        assert expected in result.stdout
    trace = json.loads(run("rollouts", "toy.yaml", "-n", "1", "--json", *options).stdout)
    assert trace["turns"][0]["unseen_tokens"] == 11
    assert trace["failure_class"] is None or trace["failure_class"] in set(FailureClass)
