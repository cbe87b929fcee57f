"""Evaluation files that somebody else made: what is not as it must be is refused in words, and never reckoned with."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from agentrl.disk import file_digest
from agentrl.errors import ConfigError
from agentrl.evaluation.ablation.source import read_recorded
from agentrl.evaluation.comparison import compare
from agentrl.evaluation.evaluation_files import Evaluation, read_evaluation, rollouts_beside, write_evaluation
from agentrl.evaluation.partial import Partial
from agentrl.evaluation.run_evaluations import find_evaluation
from agentrl.evaluation.suites import read_suite
from agentrl.runs import RunDirectory, trace_files
from tests.factories import make_rollout

if TYPE_CHECKING:
    from agentrl.rollout.engine import RolloutEngine

BEYOND = 10**400
LAUGHS = "  a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  {new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
NASTY = "\ud800\x00<script>`|\n@everyone"
ODD: tuple[Any, ...] = (None, -1, BEYOND, 1e308, float("nan"), NASTY, [1], {"a": {}}, True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rollouts = [make_rollout(f"q{n}", score=0.5, tools=("search",)) for n in range(3)]
    return write_evaluation(
        tmp_path / "b.json", Evaluation("b", {"kind": "api"}, {}, 0.5, ("search",), tuple(rollouts))
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a record; of lists, the first element."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(min(1, len(value))) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def with_value(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    copied = place = json.loads(json.dumps(record))
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copied


def rewrite(path: Path, change: Callable[[list[Any]], list[Any]]) -> None:
    """The rollouts of an evaluation with the digest that fits them, as whoever hands it on can do."""
    file = rollouts_beside(path)
    with gzip.open(file, "rt") as lines:
        traces = change([json.loads(line) for line in lines])
    with gzip.open(file, "wt") as lines:
        lines.writelines(json.dumps(trace) + "\n" for trace in traces)
    path.write_text(json.dumps({**json.loads(path.read_text()), "rollouts_digest": file_digest(file)}))


def refusal(path: Path) -> ConfigError | None:
    """Why an evaluation is not read; None where it is. Whatever else is raised fails the test."""
    try:
        read_evaluation(path)
    except ConfigError as error:
        return error
    return None


def test_no_odd_value_of_a_rollout_ends_in_anything_but_words(path: Path) -> None:
    kept: list[Any] = []
    rewrite(path, lambda traces: kept.extend(traces) or traces)  # type: ignore[func-returns-value]
    for place in places(kept[0]):
        for value in ODD:
            rewrite(path, lambda _: [with_value(kept[0], place, value), *kept[1:]])  # noqa: B023
            assert refusal(path) is None or "b.rollouts.jsonl.gz:1: found no rollout" in str(refusal(path))


@pytest.mark.parametrize("place", [("grade", "score"), ("grade", "holdout"), ("seconds",), ("turns", 0, "text")])
def test_what_is_read_can_be_shown(path: Path, place: tuple[Any, ...]) -> None:
    for value in ODD:
        rewrite(path, lambda traces: [with_value(traces[0], place, value), *traces[1:]])  # noqa: B023
        if refusal(path):
            continue
        found = read_evaluation(path)
        other = tuple(replace(each, id=f"{each.id}-a") for each in found.rollouts)
        comparison = compare(replace(found, name="a", rollouts=other), found)
        assert "<script>" not in comparison.to_html()
        assert json.loads(json.dumps(comparison.as_dict()))["n_items"] >= 2


def test_no_odd_value_of_an_evaluation_ends_in_anything_but_words(path: Path) -> None:
    record = json.loads(path.read_text())
    for place in places({key: value for key, value in record.items() if key != "figures"}):
        for value in ODD:
            path.write_text(json.dumps(with_value(record, place, value)))
            assert refusal(path) is None or str(path.parent) in str(refusal(path))
    for text in ("[]", "null", "[" * 100_000, '{"format": "agentrl-evaluation/1"}'):
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_evaluation(path)


@pytest.mark.parametrize("name", ["../b.rollouts.jsonl.gz", "..", ".", "", "/etc/passwd", "a\0b", "x" * 5000])
def test_rollouts_lie_beside_their_evaluation(path: Path, name: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "rollouts": name}))
    with pytest.raises(ConfigError):
        read_evaluation(path)


def test_a_rollout_counts_once(path: Path) -> None:
    rewrite(path, lambda traces: traces * 2)
    with pytest.raises(ConfigError, match="holds a rollout twice"):
        read_evaluation(path)


def test_a_bomb_is_not_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_files, "MAX_LINE", 1 << 20)
    rewrite(path, lambda _: [" " * (8 << 20)])
    with pytest.raises(ConfigError, match="a line of more than 1 MB"):
        read_evaluation(path)


@pytest.mark.parametrize(
    "packed",
    [b"\x1f\x8b" + b"\xff" * 50, gzip.compress(b"{}\n")[:-8], gzip.compress(b"[" * 100_000)],
    ids=["no gzip", "cut", "deeply nested"],
)
def test_broken_packing_is_told(path: Path, packed: bytes) -> None:
    file = rollouts_beside(path)
    file.write_bytes(packed)
    path.write_text(json.dumps({**json.loads(path.read_text()), "rollouts_digest": file_digest(file)}))
    with pytest.raises(ConfigError, match="rollouts"):
        read_evaluation(path)


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, '{"format": "agentrl-suite/1", "items": "../x"}'])
def test_what_is_no_suite_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigError):
        read_suite(tmp_path / "s.json")


def test_episodes_to_go_on_from_are_looked_at_too(path: Path) -> None:
    rewrite(path, lambda traces: [with_value(traces[0], ("turns", 0, "token_ids"), ["a"]), *traces[1:]])
    for source in (str(path), str(rollouts_beside(path))):
        with pytest.raises(ConfigError, match="token_ids: found str"):
            read_recorded(source)


def test_a_measurement_under_way_is_looked_at_too(path: Path) -> None:
    with gzip.open(rollouts_beside(path), "rt") as lines:
        trace = json.loads(next(iter(lines)))
    kept = path.with_name("kept.jsonl")
    for line in (json.dumps(trace | {"seconds": BEYOND}), json.dumps(trace | {"answer": None}), "[" * 100_000):
        kept.write_text(f"{{}}\n{line}\n")
        with pytest.raises(ConfigError, match="is no measurement under way"):
            Partial(cast("RolloutEngine", None), kept, {})


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.yaml", "grading: {pass_threshold: 0.5}\nrollout:\n" + LAUGHS),
        ("config.yaml", "[" * 3000),
        ("config.yaml", "a: &a {b: *a}\n"),
        ("summary.json", '{"steps": "x", "best_step": 1e300}'),
        ("summary.json", "[" * 100_000),
        ("manifest.json", '{"versions": [], "resumed": 3}'),
        ("manifest.json", "[" * 100_000),
    ],
    ids=["laughs", "deep", "itself", "no step", "deep summary", "no versions", "deep manifest"],
)
def test_a_run_that_somebody_else_made_is_refused_in_words(tmp_path: Path, file: str, text: str) -> None:
    config = "grading: {pass_threshold: 0.5}\n"
    with RunDirectory.create(tmp_path / "run", config_yaml=config, manifest={"versions": {}}) as run:
        run.write_rollouts("validation-baseline", [make_rollout()])
        run.write_rollouts("validation-final", [make_rollout()])
    (tmp_path / "run" / file).write_text(text)
    with pytest.raises(ConfigError):
        find_evaluation(f"{tmp_path / 'run'}@{'final' if file == 'summary.json' else 'baseline'}")
