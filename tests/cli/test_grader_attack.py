"""`agentrl grader attack`: the table, the JSON and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from tests.factories import make_rollout

NUMERIC = "name: numeric\ntype: numeric\n"
WEAK = """
name: weak
type: string_check
operation: like
input: "{{ sample.output_text }}"
reference: "{{ item.reference_answer }}"
"""
DOWN = "{name: down, type: endpoint, url: 'http://127.0.0.1:9/grade', retries: 0}\n"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with rows and three graders."""
    rows = [
        {"id": f"r{n}", "messages": [{"role": "user", "content": "how much ?"}], "reference_answer": f"{n}12.{n}"}
        for n in range(1, 9)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in {"numeric": NUMERIC, "weak": WEAK, "down": DOWN}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attack(grader: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["grader", "attack", grader, "--data", "rows.jsonl", "--items", "2", *options])


def test_a_good_grader_exits_0_with_its_figures(place: Path) -> None:
    result = attack("numeric.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("numeric (numeric, reward), version sha256:")
    assert lines[0].endswith(": good")
    assert "killed, mutation score 1.000 (0 of them ungraded" in lines[1]
    assert lines[-1].endswith(" answers to 2 rows (seed 17): good")


def test_survivors_are_named_with_their_text_and_exit_3(place: Path) -> None:
    result = attack("weak.yaml")
    assert result.exit_code == 3
    assert "survived: contradiction, " in result.stdout
    assert 'scores 1: "The answer is ' in result.stdout
    assert "No, that is wrong" in result.stdout


def test_the_json_has_every_survivor(place: Path) -> None:
    result = attack("weak.yaml", "--json", "--only", "contradiction", "--only", "all_candidates")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (3, "failed")
    (grader,) = found["graders"]
    attacks = grader["attacks"]
    assert attacks["total"] - attacks["killed"] == len(attacks["survivors"]) > 20
    assert attacks["mutation_score"] == pytest.approx(attacks["killed"] / attacks["total"])
    assert {each["case"] for each in attacks["survivors"]} == {"contradiction", "all_candidates"}


def test_a_lower_bar_may_be_agreed_on(place: Path) -> None:
    options = ("--only", "empty", "--only", "contradiction", "--repeats", "0")
    assert attack("weak.yaml", *options).exit_code == 3
    assert attack("weak.yaml", *options, "--min-mutation-score", "0.05").exit_code == 0
    assert attack("weak.yaml", *options, "--threshold", "1").exit_code == 0


def test_forms_that_an_exact_comparison_cannot_know_may_be_left_out(place: Path) -> None:
    (place / "exact.yaml").write_text(WEAK.replace("like", "eq"))
    assert attack("exact.yaml").exit_code == 3
    skipped = [word for name in ("paraphrase", "order", "currency", "markup") for word in ("--skip", name)]
    assert attack("exact.yaml", *skipped).exit_code == 0


def test_a_grader_that_cannot_be_asked_exits_4(place: Path) -> None:
    result = attack("down.yaml", "--only", "empty", "--only", "sanity")
    assert result.exit_code == 4
    assert "unasked" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("inconclusive")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "everything"), "--only: found 'everything'; allowed: empty, whitespace"),
        (("--skip", "everything"), "--skip: found 'everything'; allowed: empty, whitespace"),
        (("--reference", "solution"), "no row has an answer under 'solution'; name it with --reference"),
        (("--form", "so it is"), "--form: found 'so it is'"),
    ],
)
def test_wrong_options_exit_2(place: Path, options: tuple[str, ...], message: str) -> None:
    result = attack("numeric.yaml", *options)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_grader_alone_needs_rows(place: Path) -> None:
    result = CliRunner().invoke(app, ["grader", "attack", "numeric.yaml"])
    assert (result.exit_code, "--data FILE" in result.stderr) == (2, True)


def test_what_is_shown_is_not_obeyed(place: Path) -> None:
    (place / "all.yaml").write_text(
        "{name: all, type: string_check, operation: ne, input: '{{ sample.output_text }}', reference: never}\n"
    )
    for options in ((), ("--json",)):
        result = attack("all.yaml", "--only", "null_bytes", "--only", "padding", "--only", "crash", *options)
        assert result.exit_code == 3
        assert all(char.isprintable() or char == "\n" for char in result.stdout)
        json.loads(result.stdout) if options else None


def test_answers_of_rollouts_are_replayed(place: Path) -> None:
    from agentrl.runs.files import to_json
    from agentrl.runs.traces import to_trace

    recorded = [make_rollout(f"t{n}", answer=f"as stated on page {n}") for n in range(3)]
    (place / "seen.jsonl").write_text("".join(to_json(to_trace(each)) + "\n" for each in recorded))
    result = attack("numeric.yaml", "--rollouts", "seen.jsonl", "--only", "replay", "--json")
    assert (result.exit_code, json.loads(result.stdout)["graders"][0]["attacks"]["total"]) == (0, 6)


def test_the_finqa_config_is_attacked_with_its_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    options = ["--items", "1", "--repeats", "0", "--json"]
    result = CliRunner().invoke(app, ["grader", "attack", "configs/finqa.yaml", *options])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (0, "good")
    assert found["graders"][0]["attacks"]["mutation_score"] == 1.0
