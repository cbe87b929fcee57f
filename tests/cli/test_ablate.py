"""`agentrl ablate`: from recorded rollouts to a table, and what it says where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.runs.traces import from_trace, to_trace
from tests.engine_fixtures import END, TEMPLATE, YES, chance_policy, make_tokenizer
from tests.factories import make_rollout


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def kept(toy: Path) -> str:
    """A file of rollouts, some with a call that an answer follows."""
    assert (
        run("rollouts", "toy.yaml", "-n", "3", "--split", "train", "--seed", "1", "--out", "kept.jsonl").exit_code == 0
    )
    return "kept.jsonl"


def test_a_file_of_rollouts_is_gone_on_from(kept: str) -> None:
    result = run("ablate", "toy.yaml", kept, "--policy", "baseline", "--samples", "2", "--out", "found")
    assert (result.exit_code, "Traceback" in result.stderr) == (0, False)
    assert "episodes: " in result.stderr  # what it will cost, before it is spent
    assert "observation, all turns" in result.stdout
    assert result.stdout.splitlines()[-1] == "found/ablation.html"
    record = json.loads(Path("found/ablation.json").read_text())
    [look] = [each for each in record["groups"] if each["name"] == "look"]
    assert (look["part"], look["verdict"]) == ("observation", "unclear")  # few items
    new = [from_trace(json.loads(line)) for line in Path("found/ablation.rollouts.jsonl").read_text().splitlines()]
    assert len(new) == record["n_episodes"] == 2 * 2 * look["n_turns"]
    again = run("ablate", "toy.yaml", kept, "--policy", "baseline", "--samples", "2", "--json")
    assert [each["changes"] for each in json.loads(again.stdout)["groups"]] == [
        each["changes"] for each in record["groups"]
    ]


def test_the_policy_of_a_run_goes_on_by_itself(toy: Path) -> None:
    assert run("train", "toy.yaml", "--run-dir", "run", "--set", "ppo.steps=1").exit_code == 0
    result = run("ablate", "toy.yaml", "run@final", "--items", "2", "--turns", "1", "--samples", "1", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["policy"]["name"], record["recorded"]) == ("run@final", "run@final")
    assert {len(each["control_ids"]) for each in record["turns"]} == {1}
    named = run("ablate", "toy.yaml", "run@validation-baseline", "--items", "1", "--samples", "1", "--json")
    assert json.loads(named.stdout)["policy"]["name"] == "run@baseline"


def test_an_evaluation_file_names_its_policy_and_weights_that_changed_since_are_noticed(toy: Path) -> None:
    chance_policy(make_tokenizer()).save_pretrained("mine")
    assert run("eval", "toy.yaml", "--policy", "mine", "--out", "mine.json").exit_code == 0
    options = ("--items", "1", "--turns", "1", "--samples", "1", "--json")
    assert json.loads(run("ablate", "toy.yaml", "mine.json", *options).stdout)["policy"]["name"] == "mine"
    chance_policy(make_tokenizer(), favoured=(YES, END)).save_pretrained("mine")
    result = run("ablate", "toy.yaml", "mine.json", *options)
    assert (result.exit_code, "mine.json: was sampled by weights sha256:" in result.stderr) == (2, True)
    assert run("ablate", "toy.yaml", "mine.json", "--policy", "mine", *options).exit_code == 0


def test_sandboxes_are_opened_for_new_episodes_and_filled_by_the_same_calls(kept: str) -> None:
    config = yaml.safe_load(Path("toy.yaml").read_text())
    config["tools"]["lifecycle"] = {"open_url": "{serve}/open", "close_url": "{serve}/close"}
    config["tools"]["lifecycle"]["headers"] = config["grading"]["headers"]
    Path("boxes.yaml").write_text(yaml.safe_dump(config))
    result = run("ablate", "boxes.yaml", kept, "--policy", "baseline", "--samples", "1", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["replays"], record["n_lost_pairs"]) == (True, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: no such evaluation file"),
        (("nowhere@best",), "nowhere holds no run"),
        (("kept.jsonl",), "kept.jsonl: does not say which weights sampled it, or they are not there; add --policy"),
        (("kept.jsonl", "--policy", "nowhere"), "--policy nowhere: no such folder"),
        (("toy.yaml", "--policy", "baseline"), "toy.yaml: is no evaluation file"),
        (("broken.jsonl", "--policy", "baseline"), "broken.jsonl:1: found no rollout"),
        (("other.jsonl", "--policy", "baseline"), "its prompt is not what this config writes for task 't1'"),
        (("silent.jsonl", "--policy", "baseline"), "there is nothing to remove"),
        (("api.jsonl", "--policy", "baseline"), "a model behind an API made these episodes"),
        (("kept.jsonl", "--policy", "baseline", "--out", "toy.yaml"), "--out toy.yaml: the folder cannot be made"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_said_in_one_line(kept: str, arguments: tuple[str, ...], message: str) -> None:
    Path("broken.jsonl").write_text('{"id": 1}\n')
    first = json.loads(Path(kept).read_text().splitlines()[0])
    api = {**first, "turns": [{**first["turns"][0], "token_ids": [], "engine_logprobs": [], "unseen_tokens": 9}]}
    records = {"other": to_trace(make_rollout()), "silent": {**first, "turns": first["turns"][:1]}, "api": api}
    for name, record in records.items():
        Path(f"{name}.jsonl").write_text(json.dumps(record) + "\n")
    result = run("ablate", "toy.yaml", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_policy_with_another_template_is_refused(kept: str) -> None:
    tokenizer = make_tokenizer(TEMPLATE.replace("message.content }}<|im_end|>", "message.content }} <|im_end|>"))
    chance_policy(tokenizer).save_pretrained("other")
    tokenizer.save_pretrained("other")
    result = run("ablate", "toy.yaml", kept, "--policy", "baseline", "--set", "workflow.baseline=other")
    assert result.exit_code == 2
    assert "its prompt is not what this config writes" in result.stderr
