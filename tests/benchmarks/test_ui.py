"""The runs that the index is measured on are runs."""

from __future__ import annotations

from pathlib import Path

from agentrl.ui.index import EpisodeQuery, RunsIndex
from benchmarks.ui.__main__ import QUESTIONS, answer
from benchmarks.ui.made_runs import COMMON, MadeRuns


def test_made_runs_are_whole_and_every_question_has_an_answer(tmp_path: Path) -> None:
    MadeRuns().write(tmp_path, 1, 1340)
    index = RunsIndex(tmp_path)
    index.refresh()
    [row] = index.runs()
    assert (row.state, row.steps, row.rollouts, row.problems) == ("finished", 1, 1328, ())
    common = index.episodes(EpisodeQuery(contains=COMMON)).total
    assert 0.5 < common / row.rollouts < 1.0
    found = {name: answer(index, name) for name in QUESTIONS}
    assert {name for name, total in found.items() if name.startswith("no hit") and total} == set()
    assert found["phrase in all"] == found["one letter"] == row.rollouts
