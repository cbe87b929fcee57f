"""`agentrl doctor template`, over folders of tokenizers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from tests.chat.families import FAMILIES, HERMES, QWEN3_DROPS_THOUGHTS


def doctor(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["doctor", "template", *map(str, arguments)])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, template in (("fit", HERMES), ("qwen3", QWEN3_DROPS_THOUGHTS), ("mute", "{{ messages[0].content }}")):
        made[name] = tmp_path_factory.mktemp(name)
        FAMILIES["hermes"].tokenizer(template).save_pretrained(made[name])
    return made


def test_a_template_that_appends_only_is_fit(folders: dict[str, Path]) -> None:
    result = doctor(folders["fit"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].split() == ["verdict", "fit", "for", "training"]
    assert "hermes" in result.stdout


def test_a_template_that_rewrites_is_not(folders: dict[str, Path]) -> None:
    result = doctor(folders["qwen3"])
    assert result.exit_code == 1
    for part in ("in the prompt of turn 2, at token", "<think>", "not fit for training", "workflow.chat_template"):
        assert part in result.stdout


def test_the_remedy_is_a_shipped_template_or_a_file(folders: dict[str, Path], tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text(HERMES)
    for template in ("qwen3", own):
        assert doctor(folders["qwen3"], "--chat-template", template).exit_code == 0


def test_machines_read_json(folders: dict[str, Path]) -> None:
    found = json.loads(doctor(folders["qwen3"], "--json").stdout)
    assert (found["is_fit"], found["syntax"]) == (False, "hermes")
    assert found["difference"]["where"] == "in the prompt of turn 2"
    assert "`qwen3`" in found["remedy"]
    assert json.loads(doctor(folders["fit"], "--json").stdout)["difference"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["{empty}"], "its tokenizer cannot be loaded"),
        (["{broken}"], "its tokenizer cannot be loaded"),
        (["{mute}"], "its chat template does not write tool calls"),
        (["{fit}", "--chat-template", "qwen"], "chat template qwen: no such file"),
    ],
)
def test_what_cannot_be_looked_at_is_usage(
    arguments: list[str], message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folders["fit"], broken)
    (broken / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nope"}}')
    places = {**folders, "empty": tmp_path, "broken": broken}
    result = doctor(*(argument.format(**places) for argument in arguments))
    assert (result.exit_code, message in result.stderr) == (2, True)
