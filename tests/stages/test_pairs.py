from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.errors import ConfigError
from agentrl.runs import RunDirectory
from agentrl.runs.trace_files import trace_files
from agentrl.stages import pairs as reasons
from agentrl.stages.episodes import is_held_out, read_episodes
from agentrl.stages.pair_file import read_pairs, vocabulary_digest
from agentrl.stages.pairs import Episode, Pair, build_pairs, first_difference
from tests.engine_fixtures import make_tokenizer
from tests.factories import make_rollout


def episode(name: str, score: float | None, *turns: tuple[str, str], task: str = "t", prompt: str = "?") -> Episode:
    """Tokens are letters: a turn is what was sampled, and what a tool answered."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(ord(letter) - 97 for letter in text)

    return Episode(name, task, score, ids(prompt.replace("?", "q")), tuple((ids(a), ids(b)) for a, b in turns))


def build(*episodes: Episode, min_gap: float = 0.5, equal_length: bool = True) -> reasons.PairReport:
    return build_pairs(episodes, pass_threshold=0.75, min_gap=min_gap, equal_length=equal_length)


def letters(ids: tuple[int, ...]) -> str:
    return "".join(chr(token + 97) for token in ids)


def marked(pair: Pair) -> tuple[str, str, str]:
    """The prefix, and both segments with what is masked in capitals."""
    texts = [
        "".join(c if is_action else c.upper() for c, is_action in zip(letters(s.token_ids), s.action_mask, strict=True))
        for s in (pair.chosen, pair.rejected)
    ]
    return letters(pair.prefix_ids), texts[0], texts[1]


def test_segments_begin_where_the_policy_first_did_something_else() -> None:
    good = episode("good", 1.0, ("ab", "x"), ("cd", "y"), ("e", ""))
    bad = episode("bad", 0.0, ("ab", "x"), ("cf", "z"), ("g", ""))
    (pair,) = build(good, bad).pairs
    assert marked(pair) == ("qabx", "cdYe", "cfZg")
    assert (pair.turn, pair.chosen_id, pair.rejected_id) == (1, "good", "bad")
    assert (pair.chosen_score, pair.rejected_score) == (1.0, 0.0)


def test_both_segments_have_equally_many_turns_and_end_on_an_action() -> None:
    good = episode("good", 1.0, ("a", "x"), ("b", ""))
    bad = episode("bad", 0.0, ("c", "x"), ("d", "y"), ("e", "z"), ("f", ""))
    assert marked(build(good, bad).pairs[0]) == ("q", "aXb", "cXd")
    assert marked(build(good, bad, equal_length=False).pairs[0]) == ("q", "aXb", "cXdYeZf")


def test_a_failure_is_compared_with_the_success_that_stays_with_it_longest() -> None:
    near = episode("near", 1.0, ("a", "x"), ("b", "y"), ("c", ""))
    far = episode("far", 1.0, ("d", ""))
    bad = episode("bad", 0.0, ("a", "x"), ("b", "y"), ("e", ""))
    (pair,) = build(far, near, bad).pairs
    assert (pair.chosen_id, pair.turn) == ("near", 2)


def test_successes_that_are_as_near_take_turns() -> None:
    good = [episode(f"good{i}", 1.0, (letter, "")) for i, letter in enumerate("ab")]
    bad = [episode(f"bad{i}", 0.0, (letter, "")) for i, letter in enumerate("cdef")]
    assert [pair.chosen_id for pair in build(*good, *bad).pairs] == ["good0", "good1"] * 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (episode("bad", 0.0, ("c", ""), prompt="p"), reasons.OTHER_PROMPT),
        (episode("bad", 0.0, ("a", "y"), ("c", "")), reasons.TOOL_DIFFERED),
        (episode("bad", 0.0, ("a", "x"), ("b", "")), reasons.NOTHING_DIFFERS),
        (episode("bad", 0.0, ("a", "")), reasons.NOTHING_DIFFERS),
        (episode("bad", 0.7, ("c", "")), reasons.SMALL_GAP),
        (episode("bad", 0.0, ("c", ""), task="other"), reasons.NO_SUCCESS),
        (episode("bad", None, ("c", "")), reasons.NO_GRADE),
    ],
)
def test_what_makes_no_pair_is_counted_with_its_reason(bad: Episode, why: str) -> None:
    report = build(episode("good", 1.0, ("a", "x"), ("b", "")), bad)
    assert (report.pairs, dict(report.dropped)) == ([], {why: 1})


def test_a_pair_is_there_once() -> None:
    good, bad = episode("good", 1.0, ("a", "")), episode("bad", 0.0, ("b", ""))
    report = build(good, bad, episode("again", 0.0, ("b", "")))
    assert (len(report.pairs), dict(report.dropped)) == (1, {reasons.REPEATED: 1})


def test_scores_do_not_matter_to_where_episodes_part() -> None:
    one, other = episode("a", None, ("a", "x"), ("b", "")), episode("b", None, ("a", "x"), ("c", ""))
    assert first_difference(one, other) == first_difference(other, one) == 1


def trace(found: Episode) -> dict[str, Any]:
    turns = [{"token_ids": sampled, "observation_ids": answered} for sampled, answered in found.turns]
    grade = {"score": found.score}
    return {"id": found.id, "task_id": found.task_id, "grade": grade, "prompt_ids": found.prompt_ids, "turns": turns}


def record(run: Path, name: str, episodes: list[Episode]) -> None:
    (run / "rollouts").mkdir(parents=True, exist_ok=True)
    with gzip.open(run / "rollouts" / f"{name}.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(trace(each)) + "\n" for each in episodes)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Forty tasks, each with one success and one failure that share a turn; validation is on file too."""
    make_tokenizer().save_pretrained(tmp_path / "baseline")
    run = tmp_path / "run"
    for step in range(4):
        tasks = [f"task-{step}-{n}" for n in range(10)]
        both = [
            episode(task + side, score, ("a", "x"), (side, ""), task=task, prompt="klmn"[step] + "abcdefghij"[n])
            for n, task in enumerate(tasks)
            for side, score in (("b", 1.0), ("c", 0.0))
        ]
        record(run, f"train-{step:06d}", both)
    record(run, "validation-baseline", [episode("v", 1.0, ("d", ""), task="v"), episode("w", 0.0, ("e", ""), task="v")])
    config = {"workflow": {"baseline": str(tmp_path / "baseline")}, "grading": {"pass_threshold": 0.75}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def cli(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["pairs", *map(str, arguments)])


def test_pairs_of_a_run_can_be_learned_from(run_dir: Path) -> None:
    """Its rollouts for training only: the validation file has a pair too."""
    out, held_out = run_dir.parent / "new" / "pairs.jsonl", run_dir.parent / "held-out.jsonl"
    result = cli(run_dir, "--output", out, "--validation", held_out)
    assert (result.exit_code, result.stderr) == (0, "")
    rows, others = read_pairs(out, make_tokenizer()), read_pairs(held_out, make_tokenizer())
    assert result.stdout.splitlines() == [
        "80 episodes of 40 tasks in 4 files; a success scores 0.75 or more",
        "40 pairs: 1.0 shared turns, 1 action tokens a side on average; the longest side has 5 tokens (dpo.max_length)",
        f"  {len(rows)} in {out}",
        f"  {len(others)} in {held_out}",
    ]
    assert (len(rows) + len(others), len(others) > 0) == (40, True)
    assert {task["task_id"] for task in map(json.loads, out.read_text().splitlines())}.isdisjoint(
        task["task_id"] for task in map(json.loads, held_out.read_text().splitlines())
    )
    first = {
        "prompt_ids": [10, 0, 0, 23],
        "chosen_ids": [1],
        "chosen_mask": [1],
        "rejected_ids": [2],
        "rejected_mask": [1],
    }
    assert first in [*rows, *others]
    assert json.loads(out.read_text().splitlines()[0])["tokenizer"] == vocabulary_digest(make_tokenizer())


def test_a_tenth_of_the_tasks_is_held_out() -> None:
    pairs = [
        build(episode("g", 1.0, ("a", ""), task=str(n)), episode("b", 0.0, ("c", ""), task=str(n))).pairs[0]
        for n in range(2000)
    ]
    assert 0.08 < sum(map(is_held_out, pairs)) / 2000 < 0.12


def test_pairs_are_counted_for_machines(run_dir: Path) -> None:
    out = run_dir.parent / "pairs.jsonl"
    found = json.loads(cli(run_dir, "--output", out, "--json").stdout)
    assert found == {
        "pairs": {str(out): 40}, "pass_threshold": 0.75, "episodes": 80, "tasks": 40, "dropped": {},
        "shared_turns": 1.0, "action_tokens": 1.0, "longest": 5,
    }  # fmt: skip


def test_without_pairs_nothing_is_written_and_the_reasons_are_told(run_dir: Path) -> None:
    out = run_dir.parent / "pairs.jsonl"
    result = cli(run_dir, "--output", out, "--pass-threshold", 2)
    assert (result.exit_code, out.exists()) == (1, False)
    assert "  80 failures of tasks without a success" in result.stdout
    assert "no pair: nothing was written" in result.stdout


def test_a_file_of_rollouts_needs_to_be_told_whose_ids_they_are(run_dir: Path) -> None:
    file = run_dir.parent / "rollouts.jsonl"
    file.write_text(
        "".join(json.dumps(trace(episode(*given))) + "\n" for given in (("g", 1.0, ("a", "")), ("b", 0.0, ("c", ""))))
    )
    out = run_dir.parent / "pairs.jsonl"
    result = cli(file, "--output", out)
    assert (result.exit_code, result.stderr) == (2, "error: --pass-threshold is needed: no run says it\n")
    assert "--tokenizer is needed" in cli(file, "--output", out, "--pass-threshold", 1).stderr
    assert cli(file, "--output", out, "--pass-threshold", 1, "--tokenizer", run_dir.parent / "baseline").exit_code == 0
    assert len(read_pairs(out, make_tokenizer())) == 1


@pytest.mark.parametrize(
    ("break_it", "found"),
    [
        (lambda run: (run / "config.yaml").unlink(), "config.yaml: is no config of `agentrl train`"),
        (lambda run: (run / "config.yaml").write_text("sft: {}"), "config.yaml: is no config of `agentrl train`"),
        (lambda run: [each.unlink() for each in run.glob("rollouts/train-*")], "no rollouts/train-*.jsonl.gz"),
        (
            lambda run: (run / "rollouts/train-000001.jsonl.gz").write_bytes(b"?"),
            "train-000001.jsonl.gz: cannot be read",
        ),
        (lambda run: record(run, "train-000002", []), None),
    ],
)
def test_what_cannot_be_read_is_named(run_dir: Path, break_it: Any, found: str | None) -> None:
    break_it(run_dir)
    result = cli(run_dir, "--output", run_dir.parent / "pairs.jsonl")
    assert (result.exit_code, found or "") == (2 if found else 0, found or "")
    assert (found or "") in result.stderr


def test_rollouts_are_read_as_a_run_writes_them(tmp_path: Path) -> None:
    rollout = make_rollout("task", score=0.5)
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        file = run.write_rollouts("train-000001", [rollout])
    (found,) = read_episodes(file)
    assert found == Episode(
        rollout.id,
        "task",
        0.5,
        rollout.prompt_ids,
        tuple((turn.token_ids, turn.observation_ids) for turn in rollout.turns),
    )
    assert trace_files(tmp_path / "run") == [file]


def test_a_line_that_is_no_rollout_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rollouts.jsonl"
    file.write_text(json.dumps(trace(episode("a", 1.0, ("a", "")))) + '\n\n{"id": "b"}\n')
    with pytest.raises(ConfigError, match=r"rollouts\.jsonl:3: found no rollout \(KeyError: 'task_id'\)"):
        list(read_episodes(file))
