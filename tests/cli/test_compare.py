"""`agentrl compare`: what it prints, writes and refuses, and what it does not load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.runs import RunDirectory
from tests.factories import make_rollout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best policy solves more with fewer calls, and whose last one was measured with other tasks."""
    path = tmp_path_factory.mktemp("runs") / "demo"
    config = {"grading": {"pass_threshold": 0.75}, "rollout": {"max_turns": 4}, "tools": {}, "inference": {}}
    manifest = {"started_at": "2026-01-01T00:00:00+00:00", "versions": {"tools": {"search": None, "cat": None}}}
    before = [make_rollout(f"t{i}", n, float(i % 2), ("search", "cat", "cat")) for i in range(8) for n in range(2)]
    after = [make_rollout(f"t{i}", n, 1.0, ("search",), policy_version=3) for i in range(8) for n in range(2)]
    with RunDirectory.create(path, config_yaml=yaml.safe_dump(config), manifest=manifest) as made:
        made.write_rollouts("validation-baseline", before)
        made.write_rollouts("validation-best", after)
        made.write_rollouts("validation-final", [make_rollout(f"t{i}", policy_version=5) for i in range(7)])
        made.write_summary({"steps": 5, "best_step": 3})
    return path


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_the_summary_fits_a_terminal(run: Path) -> None:
    result = compare(f"{run}@baseline", f"{run}@best")
    assert result.exit_code == 0, result.output
    assert "8 items x 2 samples" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("tool calls "))
    assert line.split()[:6] == ["tool", "calls", "3.00", "1.00", "-66.7", "%"]
    quadrants = next(line for line in result.stdout.splitlines() if line.startswith("higher reward"))
    assert quadrants.split() == ["higher", "reward", "4", "0", "0"]
    lines = [line for line in result.stdout.splitlines() if str(run) not in line]
    assert max(map(len, lines)) <= 100


def test_json_has_items_quadrants_and_every_figure_with_its_interval(run: Path) -> None:
    result = compare(f"{run}@baseline", f"{run}@best", "--json")
    record = json.loads(result.stdout)
    assert record["n_items"] == sum(record["quadrants"].values()) == 8
    assert all("change_interval" in figure for figure in record["differences"].values())
    assert (record["a"]["policy"]["step"], record["b"]["policy"]["step"]) == (0, 3)
    assert record["differences"]["reward"]["change"] == 0.5


def test_the_three_files_are_written(run: Path, tmp_path: Path) -> None:
    result = compare(f"{run}@baseline", f"{run}@best", "--out", tmp_path / "a" / "b", "--episodes", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith(str(tmp_path / "a" / "b" / "compare.html"))
    page = (tmp_path / "a" / "b" / "compare.html").read_text()
    assert page.count('<article class="sample">') == 4
    record = json.loads((tmp_path / "a" / "b" / "compare.json").read_text())
    printed = compare(f"{run}@baseline", f"{run}@best", "--out", tmp_path / "c", "--json").stdout
    assert json.loads(printed) == record  # and nothing but JSON is printed
    assert (tmp_path / "a" / "b" / "compare.md").read_text().startswith("### B against A: better")


def test_what_differs_is_named_and_may_be_allowed(run: Path) -> None:
    refused = compare(f"{run}@baseline", f"{run}@final")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--allow-difference tasks" in refused.stderr
    allowed = compare(f"{run}@baseline", f"{run}@final", "--allow-difference", "tasks")
    assert "more than the policy differs, which was allowed" in allowed.stdout
    assert "7 items x 2 and 1 samples" in allowed.stdout
    assert f"1 items are not compared: only in {run}@baseline (1)" in allowed.stdout


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ("{run}@baseline", "{run}@baseline", "are the same rollouts"),
        ("{run}@baseline", "{run}@9", "validation-best"),
        ("{run}", "{run}@best", "@best"),
        ("{run}@baseline", "{run}/config.yaml", "is no evaluation file"),
        ("nothing", "{run}@best", "no such evaluation file"),
        ("{run}/evaluations", "{run}@best", "no such evaluation file\n"),
        ("{run}/rollouts/validation-best.jsonl.gz", "{run}@best", "write {run}@validation-best\n"),
    ],
)
def test_wrong_sources_are_refused_with_the_repair(a: str, b: str, says: str, run: Path) -> None:
    result = compare(a.format(run=run), b.format(run=run))
    assert (result.exit_code, result.stdout) == (2, "")
    assert says.format(run=run) in result.stderr


def test_figures_of_a_run_are_no_evaluation_and_the_name_of_one_is_said(run: Path) -> None:
    figures = run / "evaluations" / "validation-best.json"
    figures.parent.mkdir(exist_ok=True)
    figures.write_text("{}")
    result = compare(figures, f"{run}@baseline")
    assert result.exit_code == 2
    assert f"write {run}@validation-best\n" in result.stderr


def test_a_place_that_cannot_be_written_is_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = compare(f"{run}@baseline", f"{run}@best", "--out", tmp_path / "file" / "x")
    assert result.exit_code == 2
    assert "--out" in result.stderr
    assert result.stdout == ""


def test_nothing_heavy_is_loaded(run: Path, tmp_path: Path) -> None:
    words = ["agentrl", "compare", f"{run}@baseline", f"{run}@best", "--out", str(tmp_path / "out")]
    code = (
        f"import sys; sys.argv = {words!r}\n"
        "from agentrl.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'scipy', 'pandas', 'fastapi'}\n"
        "print(*sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert (tmp_path / "out" / "compare.html").is_file()
