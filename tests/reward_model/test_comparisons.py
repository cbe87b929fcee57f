from __future__ import annotations

from pathlib import Path

import pytest

from agentrl.errors import ConfigError
from agentrl.labels import Preference, Rating
from agentrl.reward_model.comparisons import ALONE, MANY, SAME, TIE, UNDECIDED, UNKNOWN, Comparison, compare
from agentrl.reward_model.data_file import read_examples, write_examples
from agentrl.reward_model.episodes import rated, to_episode
from agentrl.runs import RunDirectory
from agentrl.runs.files import to_json
from agentrl.runs.trace_files import read_traces, trace_files
from agentrl.runs.traces import from_trace, to_trace
from agentrl.types import Grade
from tests.factories import make_rollout, make_task
from tests.reward_model.examples import episode


def siblings(*scores: float | None) -> list:
    return [episode(f"e{index}", "t", score=score) for index, score in enumerate(scores)]


def test_a_success_is_compared_with_a_failure_of_its_task() -> None:
    found = compare([*siblings(1.0, 0.0), episode("x", "u", score=0.0)], by="outcome")
    (only,) = found.comparisons
    assert (only.chosen, only.rejected, only.gap) == ("e0", "e1", 1.0)
    assert found.dropped == {ALONE: 1}


def test_scores_within_the_margin_are_ties() -> None:
    found = compare(siblings(0.5, 0.7, 0.71), by="score")
    assert [(each.chosen, each.rejected) for each in found.comparisons] == [("e2", "e0")]
    assert found.dropped[TIE] == 2


def test_ungraded_episodes_are_compared_with_nobody() -> None:
    assert compare(siblings(None, 1.0, 0.0), by="score").comparisons[0].first != "e0"


def test_one_task_does_not_outweigh_the_others() -> None:
    found = compare(siblings(*[1.0] * 5, *[0.0] * 5), by="outcome", most=3)
    assert len(found.comparisons) == 3
    assert found.dropped[MANY] == 22
    assert len({each for pair in found.comparisons for each in (pair.first, pair.second)}) == 6  # spread


def test_the_order_of_a_comparison_says_nothing() -> None:
    tasks = [episode(f"{task}-{score}", f"t{task}", score=score) for task in range(400) for score in (0.0, 1.0)]
    found = compare(tasks, by="outcome").comparisons
    assert 160 < sum(each.is_first_better for each in found) < 240
    assert compare(tasks, by="outcome").comparisons == found
    assert compare(tasks, by="outcome", seed=18).comparisons != found


def test_episodes_that_did_the_same_teach_nothing() -> None:
    twins = [episode("a", "t", score=1.0, said="same"), episode("b", "t", score=0.0, said="same")]
    assert compare(twins, by="outcome").dropped == {SAME: 1}


def test_people_prefer_by_majority() -> None:
    def prefer(chosen: str, rejected: str, rater: str) -> Preference:
        return Preference("t", chosen, rejected, rater)

    said = [prefer("e0", "e1", "a"), prefer("e0", "e1", "b"), prefer("e1", "e0", "c"), prefer("e0", "e2", "a"),
            prefer("e2", "e0", "b"), prefer("e0", "gone", "a")]  # fmt: skip
    found = compare(siblings(None, None, None), by="labels", preferences=said)
    (only,) = found.comparisons
    assert (only.chosen, only.rejected) == ("e0", "e1")
    assert {who: (vote == only.is_first_better) for who, vote in only.votes.items()} == {
        "a": True,
        "b": True,
        "c": False,
    }
    assert found.dropped == {UNDECIDED: 1, UNKNOWN: 1}


def test_ratings_take_the_place_of_the_graders_score() -> None:
    ratings = [Rating("e0", "t", "a", 0.0), Rating("e0", "t", "b", 0.4), Rating("e1", "t", "a", 1.0)]
    first, second, third = rated(siblings(1.0, 0.0, 0.5), ratings)
    assert (first.score, second.score, third.score) == (pytest.approx(0.2), 1.0, 0.5)
    (only,) = compare([first, second, third], by="labels").comparisons
    assert (only.chosen, dict(only.votes)) == ("e1", {"a": only.is_first_better})


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    rollout = make_rollout("t1", answer="nine", output="x" * 30)
    one, other = to_episode(rollout), episode("e1", "t1", score=None)
    comparison = Comparison("t1", one.id, "e1", True, 0.5, {"a": True})
    write_examples(tmp_path / "a.jsonl", [one, other], [comparison])
    found = read_examples(tmp_path / "a.jsonl")
    assert list(found.episodes.values()) == [one, other]
    assert found.comparisons == (comparison,)
    assert found.sides(comparison) == (one, other)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "a.jsonl:1: found neither"),
        ('{"episode": {"id": "x"}}', "a.jsonl:1: found neither an episode nor a comparison .KeyError"),
        ("", "holds no episode"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(ConfigError, match=says):
        read_examples(tmp_path / "a.jsonl")


def test_a_comparison_of_nothing_is_refused(tmp_path: Path) -> None:
    write_examples(tmp_path / "a.jsonl", siblings(1.0), [Comparison("t", "e0", "gone", True)])
    with pytest.raises(ConfigError, match=r"a\.jsonl:2: compares gone"):
        read_examples(tmp_path / "a.jsonl")


def test_rollouts_are_read_from_runs_and_files(tmp_path: Path) -> None:
    rollout = make_rollout()
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        run.write_rollouts("train-0001", [rollout])
        run.write_rollouts("validation-0001", [rollout])
        run.write_rollouts("test-final", [rollout])
    assert [path.name for path in trace_files(tmp_path / "run")] == ["train-0001.jsonl.gz"]
    assert len(trace_files(tmp_path / "run", evaluations=True)) == 2
    (tmp_path / "r.jsonl").write_text(to_json(to_trace(rollout)) + "\n")
    assert [each.id for each in read_traces(tmp_path / "r.jsonl", from_trace)] == [rollout.id]
    (tmp_path / "r.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"r.jsonl:1: found no rollout"):
        list(read_traces(tmp_path / "r.jsonl", from_trace))
    with pytest.raises(ConfigError, match="no such file or folder"):
        trace_files(tmp_path / "gone")


def test_an_episode_has_a_score_and_a_document() -> None:
    task = make_task("t1", path="acme/2015/page_3")
    rollout = make_rollout(task=task, grade=Grade(0.5, sub_scores={"tone": 0.9}, holdout={"gold": 0.1}))
    assert to_episode(rollout).document == ""
    found = to_episode(rollout, document="path", levels=1)
    assert (found.document, found.score) == ("acme", 0.5)
    assert [to_episode(rollout, score=name).score for name in ("tone", "gold", "other")] == [0.9, 0.1, None]
    assert to_episode(make_rollout(score=None)).score is None
