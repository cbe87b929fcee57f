"""`agentrl endpoints check` on a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentrl.cli.main import app

SERVER = Path(__file__).parents[1] / "defect_server.py"
CONFIG = """
workflow: {{target: t, baseline: b}}
data: {{train: train.jsonl, validation: validation.jsonl}}
tools:
  serve:
    - {{command: ["{{python}}", {server}, {defect}], env: {{NOTES_KEY: "${{random}}"}}}}
  endpoints:
    - name: note
      server_url: "{{serve}}/note"
      headers: {{Authorization: "Bearer ${{NOTES_KEY}}"}}
      item_fields: none
      check_arguments: {{text: "{{marker}}"}}
grading: {{name: notes, url: "{{serve}}/grade", headers: {{Authorization: "Bearer ${{NOTES_KEY}}"}}}}
"""


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, defect: str, *arguments: str) -> Result:
    for split, answers in {"train": (1234.5, 77.25), "validation": (5.5,)}.items():
        rows = [
            {
                "id": f"{split} {answer}",
                "messages": [{"role": "user", "content": f"{answer}?"}],
                "reference_answer": answer,
            }
            for answer in answers
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.yaml").write_text(CONFIG.format(server=SERVER, defect=defect))
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["endpoints", "check", "run.yaml", *arguments])


def test_good_endpoints_exit_0_with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, "none")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["tool", "note", "reachable", "ok"]
    assert lines[-1] == "13 ok"
    assert result.stdout.count("64 calls at once") == 2  # max_concurrency; a step has 128 episodes


def test_a_defect_exits_1_and_is_in_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, "executes_twice", "--json", "--burst", "3")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert not printed["is_good"]
    failed = [each for each in printed["findings"] if each["result"] == "failed"]
    assert [(each["endpoint"], each["check"]) for each in failed] == [("tool note", "idempotency")]
    burst = next(each for each in printed["findings"] if each["check"] == "burst")
    assert burst["figures"]["size"] == 3


def test_the_other_kinds_of_tool_are_reached_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mcp", reason="the extra agentrl[mcp] is not installed")
    notes = {"name": "notes", "command": ["{python}", str(SERVER.with_name("mcp_notes_server.py")), "stdio"]}
    servers = [notes, {"name": "down", "url": "http://127.0.0.1:1/mcp"}]
    (tmp_path / "echo_tool.py").write_text("def look(key: str) -> str:\n    return key\n")
    sets = ("tools.endpoints=[]", "tools.python=['echo_tool:look']", f"tools.mcp={json.dumps(servers)}")
    options = [word for each in sets for word in ("--set", each)]
    result = check(tmp_path, monkeypatch, "none", "--json", "--burst", "2", *options)
    found = {each["endpoint"]: each for each in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 1
    assert found["python look"]["result"] == "ok"
    assert found["mcp notes"]["detail"] == "has the tools note, whoami, refuse, long, hang, crash"
    assert (found["mcp down"]["result"], "ConnectError" in found["mcp down"]["detail"]) == ("failed", True)


def test_a_config_without_endpoints_exits_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("workflow: {target: t, baseline: b}\n")
    result = CliRunner().invoke(app, ["endpoints", "check", "run.yaml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the config still needs data, tools and grading" in result.stderr


@pytest.mark.parametrize("defect", ["falls_over", "escape_sequences"])
def test_what_a_server_says_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    result = check(tmp_path, monkeypatch, defect, "--set", "tools.endpoints[0].check_arguments.text=x")
    assert all(char.isprintable() or char == "\n" for char in result.stdout)
