"""Rollouts of a finished run, read back for whoever grades or labels them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrl.errors import ConfigError
from agentrl.evaluation.recorded import read_recorded
from agentrl.runs import RunDirectory
from agentrl.runs.files import to_json
from agentrl.runs.traces import to_trace
from agentrl.types import Rollout
from tests.factories import make_rollout


def recorded(number: int) -> Rollout:
    return make_rollout(f"t{number}", score=0.5, id=f"trace_{number}")


def test_test_rollouts_are_read_only_when_asked_for(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        run.write_rollouts("train-000001", [recorded(1), recorded(2)])
        run.write_rollouts("validation-000001", [recorded(3)])
        run.write_rollouts("test-best", [recorded(4)])
    assert list(read_recorded(tmp_path / "run")) == ["train-000001", "validation-000001"]
    found = read_recorded(tmp_path / "run", with_test=True)
    assert {name: [each.id for each in rollouts] for name, rollouts in found.items()} == {
        "test-best": ["trace_4"],
        "train-000001": ["trace_1", "trace_2"],
        "validation-000001": ["trace_3"],
    }


def test_a_file_of_rollouts_is_read_and_no_rollout_twice(tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text("".join(to_json(to_trace(recorded(n))) + "\n" for n in (1, 2, 1)))
    assert {name: [each.id for each in found] for name, found in read_recorded(path).items()} == {
        "shown": ["trace_1", "trace_2"]
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"id": "x"}\n', r"shown.jsonl:1: found no rollout \(KeyError: 'grade'\)"), ("x\n", "shown.jsonl:1: found no r")],
)
def test_a_line_that_is_no_rollout_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_recorded(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        read_recorded(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"has no rollouts/\*.jsonl.gz"):
        read_recorded(tmp_path)
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        run.write_rollouts("test-best", [recorded(4)])
    with pytest.raises(ConfigError, match="only rollouts of the test split; --test takes them"):
        read_recorded(tmp_path / "run")
