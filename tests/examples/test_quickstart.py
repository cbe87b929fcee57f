"""The quickstart notebook runs from top to bottom."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
BASELINE = ROOT / "examples" / "finqa" / "baseline"
SECONDS = 300
"""For one cell on a slow machine; two idle cores need less than 60 s for all of them."""


def test_the_notebook_is_kept_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow
@pytest.mark.skipif(not BASELINE.is_dir(), reason="examples/finqa/baseline is absent; `make baseline` makes it")
def test_the_notebook_trains_and_shows_a_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)  # runs/ lands here, not in the repository
    paths = [str(ROOT / "src"), str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()

    printed = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "report.html").is_file()
    assert "stopped by: None" in printed
    assert "validation: 8 items x 1 sample" in printed
    assert "turn 1:" in printed
    assert "score:" in printed
    assert not names_without_a_line_in_the_docs(run)


def names_without_a_line_in_the_docs(run: Path) -> list[str]:
    """Keys of the run's metrics and summary that docs/metrics.md does not explain."""
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    keys = {key for row in rows for key in row} | set(json.loads((run / "summary.json").read_text()))
    return sorted(key for key in keys if f"`{key}`" not in text and not key.startswith("tool_calls_"))
