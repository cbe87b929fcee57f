"""A grader's own file: JSON as hosted fine-tuning takes it, YAML, or a run's config."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from agentrl.config.grader_file import load_grader, parse_grader
from agentrl.errors import ConfigError
from tests.config.grader_mutations import CHECK, mutated

RUN = """
workflow: {target: t, baseline: b}
grading: {name: notes, url: "http://127.0.0.1:1/grade"}
"""


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


@pytest.mark.parametrize("content", [CHECK, {"grader": CHECK}, {"grading": CHECK}, {"grading": {"grader": CHECK}}])
@pytest.mark.parametrize("name", ["grader.json", "grader.yaml"])
def test_a_grader_alone_is_read_however_it_is_wrapped(tmp_path: Path, content: object, name: str) -> None:
    found = load_grader(write(tmp_path, name, json.dumps(content)))
    assert found.run is None
    assert found.grading.grader.model_dump(exclude_none=True) == CHECK


def test_the_grader_of_a_run_brings_the_run_along(tmp_path: Path) -> None:
    found = load_grader(write(tmp_path, "run.yaml", RUN), ["grading.pass_threshold=0.5"])
    assert (found.grading.name, found.grading.pass_threshold) == ("notes", 0.5)
    assert found.run is not None
    assert found.run.workflow.target == "t"


def test_overrides_of_a_grader_alone_start_at_its_top(tmp_path: Path) -> None:
    path = write(tmp_path, "grader.json", json.dumps(CHECK))
    assert load_grader(path, ["operation=ilike", "pass_threshold=0.5"]).grading.pass_threshold == 0.5
    with pytest.raises(ConfigError, match=r"--set operation=lik: operation: found the text 'lik'; allowed: eq, ne"):
        load_grader(path, ["operation=lik"])


def test_json_is_read_as_json(tmp_path: Path) -> None:
    """YAML stumbles over tabs, reads 1e-6 as text and halves escaped pairs."""
    numeric = {"type": "numeric", "near_tolerance": 0.000001, "reference": "\N{GRINNING FACE}"}
    text = json.dumps(numeric, indent="\t")
    assert "1e-06" in text
    assert "\\ud83d\\ude00" in text
    grader = load_grader(write(tmp_path, "grader.json", text)).grading.grader
    assert grader.model_dump()["reference"] == "\N{GRINNING FACE}"
    assert grader.model_dump()["near_tolerance"] == 1e-6


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.yaml", "type: string_chek\n", "g.yaml:1: type: found the text 'string_chek'; allowed: .* mean 'string_che"),
        ("g.yaml", "type: numeric\nrefrence: x\n", "g.yaml:2: refrence: unknown key; did you mean 'reference'?"),
        ("g.yaml", "type: numeric\ninput: 3\n", "g.yaml:2: input: found 3; allowed: text"),
        ("g.json", '{"type": "numeric",\n "input": 3}', "g.json:2: input: found 3; allowed: text"),
        ("g.json", '{"type": "numeric",\n}', "g.json:2: not JSON: "),
        ("g.json", '{"type": "numeric",\n "type": "numeric"}', "g.json:2: type: key written twice"),
        ("g.json", "[]", "g.json:1: found a list; allowed: a mapping that starts with `type:`"),
        ("g.json", "", "g.json: found an empty file; allowed: a mapping that starts with `type:`"),
        ("g.yaml", "name: x\n", "g.yaml:1: url: missing"),
        ("g.yaml", "type: numeric\nmax_score: 1\npass_threshold: 3\n", "g.yaml:3: pass_threshold: found 3; allowed"),
        (
            "g.yaml",
            "type: numeric\npass_threshold: 3\n",
            "g.yaml:2: pass_threshold: found 3; allowed: at most max_score",
        ),
        (
            "job.json",
            '{"method": {"type": "reinforcement"}}',
            "job.json: found a hosted job, no grader: try `agentrl imp",
        ),
        ("g.yaml", "workflow: {target: t, baseline: b}\n", "g.yaml: found a run's config without `grading`"),
        (
            "g.yaml",
            "type: multi\ngraders:\n  a: {type: string_check, input: x, reference: y, operation: foo}\n"
            "calculate_output: a\n",
            "g.yaml:3: graders.a.operation: found the text 'foo'; allowed: eq, ne, neq, like, ilike",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_grader(write(tmp_path, name, content))


def test_a_grader_in_a_request_has_no_lines() -> None:
    assert parse_grader(CHECK).grading.name == "exact"
    with pytest.raises(ConfigError, match="grader: operation: found the text 'foo'; allowed: eq"):
        parse_grader(CHECK | {"operation": "foo"})
    with pytest.raises(ConfigError, match="grader: found 'x'; allowed: an object with `type`"):
        parse_grader("x")


def test_a_grader_alone_may_give_any_score_until_somebody_says_a_range() -> None:
    found = parse_grader({"type": "endpoint", "url": "http://127.0.0.1:1/grade", "pass_threshold": 8})
    assert (found.grading.pass_threshold, found.grading.max_score) == (8, 8)
    assert (found.scoring.min_score, found.scoring.max_score) == (-math.inf, math.inf)
    said = parse_grader({"type": "endpoint", "url": "http://127.0.0.1:1/grade", "max_score": 5})
    assert (said.scoring.min_score, said.scoring.max_score) == (0, 5)


def test_a_threshold_within_reach_changes_no_range() -> None:
    declared = {"type": "multi", "graders": {"a": CHECK, "b": CHECK}, "calculate_output": "a + 3 * b"}
    found = parse_grader(declared | {"pass_threshold": 2}).grading
    assert (found.max_score, found.pass_threshold) == (4, 2)


def test_the_range_of_a_run_holds(tmp_path: Path) -> None:
    assert load_grader(write(tmp_path, "run.yaml", RUN)).scoring.max_score == 1


def test_no_declaration_is_worse_than_refused() -> None:
    """What is wrong in it is an error of the config, or nothing is."""
    refused = 0
    for declared in mutated(1500):
        try:
            found = parse_grader(declared)
        except ConfigError:
            refused += 1
        else:
            assert parse_grader(found.grading.grader.model_dump(mode="json")).grading.grader == found.grading.grader
    assert 500 < refused < 1400
