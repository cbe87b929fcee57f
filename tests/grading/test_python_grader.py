"""`type: python`: what is refused before anything runs, and what becomes of a grade."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from agentrl.config import GradingConfig, load_config
from agentrl.config.graders import PythonConfig
from agentrl.errors import ConfigError
from agentrl.grading import Submission, build_grader
from agentrl.grading.python_grader import PythonGrader, modules_to_preload
from agentrl.grading.sandbox import Level, levels, sandbox_level
from agentrl.types import Grade
from tests.factories import make_rollout

ANSWER_IS_RIGHT = """
def grade(sample, item):
    return float(sample["output_text"] == item["answer"])
"""


@pytest.fixture(autouse=True)
def _needs_walls() -> None:
    if sandbox_level() is Level.UNISOLATED:
        pytest.skip("; ".join(f"{level.value}: {levels.why_not(level)}" for level in levels.ISOLATED))


def config(source: str, **fields: Any) -> PythonConfig:
    return PythonConfig(type="python", source=textwrap.dedent(source), **fields)


def grades(source: str, *answers: str, item: dict[str, Any] | None = None, **fields: Any) -> list[Grade]:
    async def run() -> list[Grade]:
        grader = PythonGrader(config(source, **fields))
        try:
            row = item or {"answer": "42"}
            return await asyncio.gather(*(grader.grade(Submission.of_text(answer, row)) for answer in answers))
        finally:
            await grader.aclose()

    return asyncio.run(run())


def grade(source: str, answer: str = "42", **fields: Any) -> Grade:
    return grades(source, answer, **fields)[0]


def test_a_grader_written_for_hosted_training_runs_as_it_is() -> None:
    """It sees the whole sample, with the calls of the episode, and the whole row."""
    source = """
        from typing import Any
        import json, re

        def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
            called = [call["function"]["name"] for call in sample["output_tools"]]
            is_right = re.fullmatch(r"\\d+", sample["output_text"]) and item["answer"] == sample["output_text"]
            message = sample["choices"][0]["message"]
            return 0.5 * bool(is_right) + 0.25 * (called == ["search", "cat"]) + 0.25 * (message["role"] == "assistant")
    """

    async def run() -> Grade:
        declared = {"type": "python", "name": "code", "source": textwrap.dedent(source), "image_tag": "2025-05-08"}
        grader = build_grader(GradingConfig.model_validate({**declared, "pass_threshold": 0.5}))
        rollout = make_rollout(answer="42", tools=("search", "cat"), score=None)
        rollout.task.item["answer"] = "42"
        try:
            grade = await grader.grade(rollout)
        finally:
            await grader.aclose()
        assert grade.version == grader.version
        return grade

    assert asyncio.run(run()).score == 1.0


def test_every_sample_has_its_own_score() -> None:
    """Many at once wait for two workers, and no reply is taken for another's."""
    source = "def grade(sample, item): return float(sample['output_text'])"
    answers = [str(number) for number in range(60)]
    assert [each.score for each in grades(source, *answers)] == [float(number) for number in range(60)]


@pytest.mark.parametrize(
    ("source", "flag", "told"),
    [
        ("def grade(s, i): return i['no']", "python_grader_runtime_error", "KeyError: 'no' (line 1, in grade)"),
        (
            "def grade(s, i): return 'good'",
            "python_grader_runtime_error",
            "grade returned str 'good'; allowed: a number",
        ),
        ("def grade(s, i): return True", "python_grader_runtime_error", "grade returned bool True"),
        ("def grade(s, i): return float('nan')", "python_grader_runtime_error", "grade returned nan"),
        ("import not_there\ndef grade(s, i): return 1", "python_grader_runtime_error", "(line 1, in <module>)"),
        ("def grade(s, i): return 1\ngrade = None", "python_grader_runtime_error", "NoneType"),
        ("def grade(s, i): return len(bytearray(1 << 40))", "python_grader_server_error", "more memory than it may"),
        ("import os\ndef grade(s, i): os._exit(1)", "python_grader_server_error", "exit code 1"),
        ("def grade(s, i):\n  while 1: pass", "python_grader_server_error", "time limit of 0.5 seconds"),
        (
            "def grade(s, i): raise ValueError('\\x1b[31m\\nred')",
            "python_grader_runtime_error",
            "ValueError:  [31m red",
        ),
    ],
)
def test_what_breaks_leaves_the_rollout_ungraded_and_is_flagged(source: str, flag: str, told: str) -> None:
    fields = {"timeout_seconds": 0.5} if "while" in source else {}
    result = grade(source, **fields)
    assert result.score is None
    assert result.errors == (flag,)
    assert told in result.reason
    assert result.reason.startswith("grader python: ")


def test_an_error_of_the_code_counts_as_0_where_the_config_says_so() -> None:
    result = grade("def grade(s, i): return i['no']", on_error="zero")
    assert (result.score, result.errors) == (0.0, ("python_grader_runtime_error",))
    assert "KeyError" in result.explanation
    limit = grade("import os\ndef grade(s, i): os._exit(0)", on_error="zero")
    assert (limit.score, limit.errors) == (None, ("python_grader_server_error",))


@pytest.mark.parametrize(
    ("answer", "length"),
    [("\x00" * 3, 3), ("\ud800", 1), ("[" * 5000, 5000), ("1" * 5000, 5000), ("NaN", 3), ("\u202e", 1)],
)
def test_odd_answers_arrive_as_they_are(answer: str, length: int) -> None:
    assert grade("def grade(s, i): return len(s['output_text'])", answer).score == length


def test_a_sample_that_is_no_json_is_no_score() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for item in ({"x": float("nan")}, {"x": object}, {"x": deep}):
        result = grade("def grade(s, i): return 1", item=item)
        assert (result.score, result.errors) == (None, ("python_grader_server_error",))


def test_the_event_loop_goes_on_while_a_grade_runs() -> None:
    async def run() -> int:
        grader = PythonGrader(config("import time\ndef grade(s, i):\n  time.sleep(0.3)\n  return 1"))
        waiting = asyncio.create_task(grader.grade(Submission.of_text("x", {})))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert (await waiting).score == 1.0
        await grader.aclose()
        return turns

    assert asyncio.run(run()) > 5


def test_a_wait_for_a_worker_is_no_part_of_the_time_limit() -> None:
    """Four grades of 0.4 s on one worker: the last ends after 1.6 s, and is far within 1.2 s of its own start."""
    source = "import time\ndef grade(s, i):\n  time.sleep(0.4)\n  return 1"
    results = grades(source, *"abcd", workers=1, timeout_seconds=1.2)
    assert [each.score for each in results] == [1.0] * 4


def test_a_grade_that_nobody_waits_for_any_more_harms_nothing() -> None:
    async def run() -> Grade:
        grader = PythonGrader(config("def grade(s, i): return float(s['output_text'])", workers=1))
        first = [asyncio.create_task(grader.grade(Submission.of_text("1", {}))) for _ in range(5)]
        await asyncio.sleep(0)
        for task in first:
            task.cancel()
        last = await grader.grade(Submission.of_text("2", {}))
        await grader.aclose()
        return last

    assert asyncio.run(run()).score == 2.0


def test_one_grader_serves_several_event_loops() -> None:
    grader = PythonGrader(config(ANSWER_IS_RIGHT))
    row = Submission.of_text("42", {"answer": "42"})
    assert [asyncio.run(grader.grade(row)).score for _ in range(2)] == [1.0, 1.0]
    asyncio.run(grader.aclose())


def test_the_version_is_that_of_the_code() -> None:
    base = PythonGrader(config(ANSWER_IS_RIGHT)).version
    assert (
        PythonGrader(config(ANSWER_IS_RIGHT, name="x", workers=7, sandbox="unisolated", memory_mb=100)).version == base
    )
    assert PythonGrader(config(ANSWER_IS_RIGHT + "\n# changed")).version != base
    assert PythonGrader(config(ANSWER_IS_RIGHT, on_error="zero")).version != base


def test_the_version_is_that_of_the_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    base = PythonGrader(config(ANSWER_IS_RIGHT)).version
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    assert PythonGrader(config(ANSWER_IS_RIGHT)).version != base


def test_a_grader_shows_its_level() -> None:
    shown = repr(PythonGrader(config(ANSWER_IS_RIGHT)))
    assert shown == f"PythonGrader('grader python', sandbox='{sandbox_level().value}')"


def test_without_walls_the_grader_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "sandbox_level", lambda: Level.UNISOLATED)
    with pytest.raises(ConfigError, match=r"no level that isolates works on this machine"):
        build_grader(GradingConfig.model_validate({"type": "python", "source": ANSWER_IS_RIGHT}))
    assert "sandbox='unisolated'" in repr(PythonGrader(config(ANSWER_IS_RIGHT, sandbox="unisolated")))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def grade(sample, item:\n", "line 1: found a syntax error"),
        ("x = 1\n\nreturn = 2", "line 3: found a syntax error: invalid syntax"),
        ("x = 1\0", "found a syntax error: source code"),
        ("grader.py", "; source is the text of the module, not its path"),
        ("x = 1", "found no function grade; allowed: def grade(sample, item), with exactly two positional"),
        ("class A:\n  def grade(self, sample): pass", "found no function grade"),
        ("\ndef grade(sample): return 1", "line 2: found grade(sample); allowed: def grade(sample, item)"),
        ("def grade(sample, item, more=1): return 1", "found grade(sample, item, more=1)"),
        ("def grade(sample, *item): return 1", "found grade(sample, *item)"),
        ("def grade(sample, item, *, must): return 1", "found grade(sample, item, *, must)"),
        ("async def grade(sample, item): return 1", "line 1: found async def grade"),
        ("def grade(s, i): return 1\ngrade = lambda s: 1", "line 2: found grade(s)"),
        ("#" * 262_145 + "\ndef grade(s, i): return 1", "found 262,171 bytes; allowed: at most 262,144"),
        ("(" * 5000, "found "),
        ("\0", "found "),
    ],
)
def test_a_source_that_cannot_run_is_a_config_error(source: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PythonConfig(type="python", source=source)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "def grade(sample, item, /, *, more=1, **rest): return 1",
        "try:\n  import numpy\n  def grade(s, i): return 1\nexcept ImportError:\n  def grade(s, i): return 0",
        "if True:\n  grade = lambda sample, item: 1.0",
        "from json import dumps as grade",
        "def grade(s, i): return 1 if '\\d' else 0",
    ],
)
def test_a_source_that_can_run_is_taken(source: str) -> None:
    assert PythonConfig(type="python", source=source).source == source


def test_warnings_about_a_source_neither_show_nor_stop_a_worker(recwarn: pytest.WarningsRecorder) -> None:
    odd = "\n".join(f"x{number} = '\\d'" for number in range(10_000))
    assert grade(f"{odd}\ndef grade(s, i): return 1").score == 1.0
    assert not [each for each in recwarn if "escape" in str(each.message)]


def test_a_config_file_names_the_place_of_a_wrong_source(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    content = {
        "workflow": {"target": "t", "baseline": "b"},
        "data": {"train": "a.jsonl", "validation": "b.jsonl"},
        "grading": {"type": "python", "source": "\ndef grade(sample): return 1"},
    }
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"grading\S*source: line 2: found grade\(sample\)"):
        load_config(path)


def test_plain_packages_are_imported_once_and_others_in_every_grade() -> None:
    source = "import json, os.path\nfrom numpy.linalg import norm\ndef grade(s, i):\n  import re, unknown, json._hidden"
    assert modules_to_preload(source) == ["json", "numpy.linalg", "re"]
