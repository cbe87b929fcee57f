"""`agentrl rollouts`: what it prints, and that it writes nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentrl.chat import ChatFormat
from agentrl.cli import rollouts as verb
from agentrl.cli.main import app
from agentrl.types import StopReason
from tests.engine_fixtures import CALL, chance_policy, make_tokenizer, seeded
from tests.factories import make_rollout

SERVER = Path(__file__).parents[1] / "toy_server.py"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["rollouts", "toy.yaml", *arguments])


def traces(text: str) -> dict[str, Any]:
    return {trace["task_id"]: trace for trace in map(json.loads, text.splitlines())}


def without_times(trace: dict[str, Any]) -> Any:
    return [trace["seed"], trace["answer"], trace["grade"]["score"], [turn["token_ids"] for turn in trace["turns"]]]


def test_episodes_are_shown_turn_by_turn_and_nothing_is_written(toy: Path) -> None:
    before = sorted(toy.rglob("*"))
    result = run("-n", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(toy.rglob("*")) == before
    for expected in (
        "episode 1 of 2, task validation-",
        "question  validation 0?",
        "turn 1: ",
        " tokens, ",
        ", score ",
    ):
        assert expected in result.stdout
    assert result.stdout.count("calls     look {") >= result.stdout.count("gets      yes is right") > 0
    assert result.stdout.splitlines()[-1].startswith("2 episodes: mean score ")


def test_json_and_out_are_the_traces_of_a_run_directory(toy: Path) -> None:
    printed = run("-n", "9", "--split", "train", "--json", "--out", "kept.jsonl").stdout
    found = traces(printed)
    assert sorted(found) == ["train-0", "train-1", "train-2"]  # no more than there are
    assert traces(Path("kept.jsonl").read_text()) == found
    assert {"prompt_ids", "turns", "grade", "outcome", "stop_reason"} <= found["train-0"].keys()


def test_a_seed_repeats_an_episode(toy: Path) -> None:
    first, again, other = (traces(run("-n", "3", "--json", "--seed", seed).stdout) for seed in ("5", "5", "6"))
    assert {key: without_times(trace) for key, trace in first.items()} == {
        key: without_times(trace) for key, trace in again.items()
    }
    assert {key: trace["seed"] for key, trace in first.items()} != {key: trace["seed"] for key, trace in other.items()}


def test_a_checkpoint_takes_the_place_of_the_baseline(toy: Path) -> None:
    silent = chance_policy(make_tokenizer(), favoured=("no",))
    silent.save_pretrained(toy / "step-000001" / "policy")
    answers = {trace["answer"] for trace in traces(run("--json", "--checkpoint", "step-000001").stdout).values()}
    assert answers == {""}  # it says no until its tokens are spent
    wrong = seeded(lambda size, **_: chance_policy(make_tokenizer()).__class__(_wider(size)))
    wrong.save_pretrained(toy / "wrong")
    assert run("--checkpoint", "wrong").exit_code == 2
    assert "--checkpoint nowhere: no such folder" in run("--checkpoint", "nowhere").stderr


def _wider(vocab_size: int) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(vocab_size=vocab_size, hidden_size=48, num_hidden_layers=1, num_attention_heads=2)


def test_episodes_without_a_grade_exit_1_and_say_why(toy: Path) -> None:
    result = run("-n", "2", "--set", f"tools.serve[0].command=['{{python}}', '{SERVER}', dies]")
    assert result.exit_code == 1
    assert "infra_failed" in result.stdout
    assert "answered 500" in result.stdout
    assert result.stdout.splitlines()[-1] == "2 episodes; 2 infra_failed, which count for nothing"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--split", "tests"], "found 'tests'; allowed: train, validation, test"),
        (["--split", "test"], "the config's data has no test tasks"),
        (["--out", "no/such/folder.jsonl"], "cannot be written"),
        (["--set", "tools.endpoints[0].server_url=http://127.0.0.1:1/x"], "connection refused"),
    ],
)
def test_what_cannot_be_run_exits_2(toy: Path, arguments: list[str], found: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert found in result.stderr


@pytest.fixture
def chat() -> ChatFormat:
    return ChatFormat(make_tokenizer())


def test_a_text_is_not_obeyed_and_a_long_one_is_cut_to_the_screen(chat: ChatFormat) -> None:
    output = "\x1b[2J\x1b]0;title\x07\u202egood\n" + "\n".join(f"line {n}\tx" for n in range(30))
    rollout = make_rollout(output=output, tools=("search",), score=None, stop_reason=StopReason.INFRASTRUCTURE)
    rollout = replace(rollout, error="ToolError: \x1b[31mdown")
    short, whole = ("\n".join(verb._lines(rollout, chat, full)) for full in (False, True))
    for text in (short, whole):
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "good" in text
    assert "... 23 more lines, see --full" in short
    assert "line 29" in whole
    assert "line 29" not in short
    assert "infra_failed (infrastructure), no score, 1 calls, 10 tokens, 1.00 s: ToolError:  [31mdown" in short


def test_thoughts_calls_and_errors_are_told_apart(chat: ChatFormat) -> None:
    rollout = make_rollout(tools=("look",))
    ids = chat.tokenizer.encode(f"hm {CALL}", add_special_tokens=False)
    result = replace(rollout.turns[0].tool_results[0], is_error=True, is_cut=True, attempts=3)
    turn = replace(
        rollout.turns[0], token_ids=tuple(ids), tool_results=(result, replace(result, call_id="", attempts=1))
    )
    text = "\n".join(verb._lines(replace(rollout, turns=(turn,)), chat, full=False))
    assert "says      hm\n" in text
    assert 'calls     look {"query": "item 0"}' in text
    assert "gets (error) (cut) (3 attempts)  some text" in text
    assert "calls     (a call that could not be read)\n    gets (error) (cut)  some text" in text


LOOK = '''
def look(key: str) -> str:
    """Look something up."""
    return "yes is right"
'''
SERVE_LOOK = (
    LOOK
    + """
from mcp.server.mcpserver import MCPServer
server = MCPServer("look", log_level="ERROR")
server.tool()(look)
server.run("stdio")
"""
)


def test_the_policy_cannot_tell_the_kinds_of_tool_apart(toy: Path) -> None:
    pytest.importorskip("mcp", reason="the extra agentrl[mcp] is not installed")
    (toy / "look_tool.py").write_text(LOOK)
    (toy / "look_server.py").write_text(SERVE_LOOK)
    kinds = {
        "endpoints": None,
        "python": ["look_tool:look"],
        "mcp": [{"name": "look", "command": ["{python}", "look_server.py"]}],
    }
    seen = {}
    for kind, value in kinds.items():
        sets = ["--set", "inference.deterministic=true"]  # log-probabilities too, whatever the tools' timing
        sets += ["--set", f"tools.{kind}={json.dumps(value)}", "--set", "tools.endpoints=[]"] if value else []
        found = traces(run("-n", "3", "--json", *sets).stdout)
        turns = [turn for _, trace in sorted(found.items()) for turn in trace["turns"]]
        outputs = [result["output"] for turn in turns for result in turn["tool_results"]]
        seen[kind] = ({key: without_times(trace) for key, trace in found.items()}, outputs)
    assert "yes is right" in seen["endpoints"][1]
    assert seen["python"] == seen["mcp"] == seen["endpoints"]
