"""`agentrl brief`, `review` and `budget` as somebody types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from agentrl.cli.brief import _opened, brief
from agentrl.cli.budget import budget
from agentrl.cli.exits import Verbs
from agentrl.cli.review import review
from agentrl.release.brief.records import find_release
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.store import open_store
from tests.release.story import tell

pytest.importorskip("weasyprint")

app = typer.Typer(cls=Verbs, pretty_exceptions_enable=False)
for verb in (brief, review, budget):
    app.command()(verb)

CONFIG = """
workflow: {target: support, baseline: b}
release:
  gates: [no_safety_regression]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a config and a store that has one draft."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "releases"
    folder.mkdir()
    (tmp_path / "release.yaml").write_text(CONFIG)
    place = ReleasePlace("support", folder, open_store(f"sqlite:///{folder / 'release.db'}"))
    tell(place, state=ReleaseState.DRAFT, is_first=False)
    place.store.close()
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "words",
    [
        ("support-2026",),
        ("release.yaml", "support-2026"),
        ("support-2026", "--config", "release.yaml"),
        ("release.yaml",),
    ],
    ids=["store here", "config first", "config as an option", "latest"],
)
def test_a_release_is_named_in_any_of_these_ways(here: Path, words: tuple[str, ...]) -> None:
    config = Path(words[2]) if "--config" in words else None
    what = list(words[:1] if config else words)
    store, folder, workflow, release = _opened(what, config)
    assert find_release(store, release, workflow) == "support-20261020-4f1c2a"
    assert folder.resolve() == here / "releases"


def test_a_brief_is_written_beside_the_records(here: Path) -> None:
    code, output = run("brief", "support-2026", "--locale", "fr-FR", "--json")
    assert code == 0, output
    told = json.loads(output)
    assert told["release"] == "support-20261020-4f1c2a"
    assert list(told["briefs"]) == ["fr-FR"]
    assert (here / told["briefs"]["fr-FR"]["pdf"]).read_bytes().startswith(b"%PDF")
    twin = json.loads((here / told["briefs"]["fr-FR"]["json"]).read_text("utf-8"))
    assert twin["digest"] == told["briefs"]["fr-FR"]["digest"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("other",), "has no such release; it has: support-20261020-4f1c2a (draft)"),
        (("support-2026", "--locale", "de-DE"), "allowed: en-US, en-GB, fr-FR"),
        (("a", "b", "c"), "allowed: [CONFIG] RELEASE"),
        (("missing.yaml", "x"), "missing.yaml"),
        (("support-2026", "--locale", "en-US", "--out", "release.yaml/x"), "--out release.yaml/x"),
    ],
    ids=["release", "locale", "too many", "config", "out"],
)
def test_what_cannot_be_is_told_with_what_can(here: Path, words: tuple[str, ...], said: str) -> None:
    code, output = run("brief", *words)
    assert code == 2, output
    assert said in output


def test_without_a_store_here_the_config_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run("brief", "support")
    assert code == 2
    assert "agentrl brief CONFIG support" in output


def test_a_review_is_printed_and_written(here: Path) -> None:
    code, output = run("review", "release.yaml", "--week", "2026-W44", "--weeks", "3", "--out", "out")
    assert code == 0, output
    assert "MORE TRAINING?" in output
    assert sorted(path.name for path in (here / "out").iterdir()) == ["review.html", "review.json", "review.md"]
    code, output = run("review", "release.yaml", "--week", "2026-44")
    assert (code, "2026-W46" in output) == (2, True)


def test_a_budget_is_printed_and_kept(here: Path) -> None:
    code, output = run("budget", "release.yaml", "--week", "2026-W44", "--weeks", "2", "--keep", "--json")
    assert code == 0, output
    told = json.loads(output)
    assert told["is_kept"]
    assert [axis["name"] for axis in told["frame"]] == ["unit economics", "quality", "velocity", "credibility"]
    code, output = run("budget", "release.yaml", "--week", "2026-W44")
    assert "optimistic by default" in output


def test_commands_import_nothing_heavy() -> None:
    heavy = "{'sqlalchemy', 'weasyprint', 'numpy', 'torch'} & set(sys.modules)"
    code = f"import sys, agentrl.cli.brief, agentrl.cli.review, agentrl.cli.budget; print({heavy})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
