"""A question that was answered is not asked again; a changed grader has no answers yet."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.grading import build_grader
from agentrl.grading.judges import asked_afresh
from agentrl.grading.judges.cache import VerdictCache, digest
from agentrl.grading.submission import Submission
from tests.scripted_judge import QUESTION, ScriptedJudge, completion, declared, grade_all

USAGE = {"prompt_tokens": 10, "completion_tokens": 1}
GOOD = completion({"steps": [], "result": 0.5}, usage=USAGE)


def answers(*texts: str) -> list[Submission]:
    return [Submission.of_text(text, {"reference": "42"}) for text in texts]


def test_the_same_question_is_asked_once_and_paid_once() -> None:
    judge = ScriptedJudge(GOOD)
    first, again, other = grade_all(judge, answers("a", "a", "b"))
    assert len(judge.requests) == 2
    assert (first.score, first.explanation, first.version) == (again.score, again.explanation, again.version)
    assert (bool(first.tokens), bool(again.tokens), bool(other.tokens)) == (True, False, True)


def test_the_same_question_at_the_same_time_is_one_call() -> None:
    judge = ScriptedJudge(GOOD)

    async def run() -> list[Any]:
        grader = build_grader(GradingConfig(**declared()), transport=httpx.MockTransport(judge))
        try:
            return await asyncio.gather(*map(grader.grade_submission, answers(*["a"] * 8)))
        finally:
            await grader.aclose()

    grades = asyncio.run(run())
    assert len(judge.requests) == 1
    assert [grade.score for grade in grades] == [0.5] * 8
    assert sum(bool(grade.tokens) for grade in grades) == 1


def test_who_gives_up_waiting_takes_no_verdict_from_who_does_not() -> None:
    async def run() -> tuple[list[Any], int]:
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def answer(_: httpx.Request) -> httpx.Response:
            asked.set()
            await may_answer.wait()
            return httpx.Response(200, json=GOOD)

        grader = build_grader(GradingConfig(**declared()), transport=httpx.MockTransport(answer))
        first, second = answers("a", "b")
        waiting = [asyncio.create_task(grader.grade_submission(first)) for _ in range(3)]
        await asked.wait()
        waiting[0].cancel()
        may_answer.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        asked.clear()
        may_answer.clear()
        late = asyncio.create_task(grader.grade_submission(second))
        await asked.wait()
        late.cancel()
        await grader.aclose()
        await asyncio.gather(late, return_exceptions=True)
        return found, len(asyncio.all_tasks())

    found, left = asyncio.run(run())
    assert isinstance(found[0], asyncio.CancelledError)
    assert [grade.score for grade in found[1:]] == [0.5, 0.5]
    assert left == 1, "nothing but this test is still running"


def test_a_grader_may_keep_nothing() -> None:
    judge = ScriptedJudge(GOOD)
    grade_all(judge, answers("a", "a"), judge={"cache": False})
    assert len(judge.requests) == 2


def test_asked_afresh_a_judge_is_asked_each_time() -> None:
    judge = ScriptedJudge(GOOD)
    with asked_afresh():
        grade_all(judge, answers("a", "a"))
    assert len(judge.requests) == 2


def test_what_is_no_verdict_is_not_kept(tmp_path: Path) -> None:
    judge = ScriptedJudge(completion("hm"))
    grade_all(judge, answers("a", "a"), judge={"parse_retries": 0, "cache_path": str(tmp_path)})
    assert len(judge.requests) == 2
    assert not list(tmp_path.rglob("*.json"))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with the verdict on `a`."""
    grade_all(ScriptedJudge(GOOD), answers("a"), judge={"cache_path": str(tmp_path)})
    return tmp_path


def asked(kept: Path, text: str = "a", **fields: Any) -> int:
    """How often a judge is asked by a new grader that shares the folder."""
    judge = ScriptedJudge(GOOD)
    (grade,) = grade_all(
        judge, answers(text), **{**fields, "judge": {"cache_path": str(kept), **fields.get("judge", {})}}
    )
    assert grade.score is not None
    return len(judge.requests)


def test_another_process_finds_what_a_folder_keeps(kept: Path) -> None:
    assert asked(kept) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"range": [0, 2]},
        {"sampling_params": {"temperature": 0}},
        {"input": [{"role": "user", "content": "Is {{ sample.output_text }} right?"}]},
        {"judge": {"delimit": False}},
        {"judge": {"base_url": "http://localhost:2/v1"}},
        {"judge": {"model": "other"}},
    ],
)
def test_a_changed_grader_finds_nothing(kept: Path, change: dict[str, Any]) -> None:
    assert asked(kept, **change) == 1


def test_another_answer_or_row_finds_nothing(kept: Path) -> None:
    assert asked(kept, "b") == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b'{"key": "x", "sha256": "y", "verdict": {"verdict": {"result": 1.0}, "model": ""}}',
        b"{" * 5000,
    ],
)
def test_a_damaged_file_is_one_question_asked_again(kept: Path, damage: bytes) -> None:
    (path,) = kept.rglob("*.json")
    path.write_bytes(damage)
    assert asked(kept) == 1
    assert asked(kept) == 0


def test_a_file_whose_score_was_changed_is_not_believed(kept: Path) -> None:
    (path,) = kept.rglob("*.json")
    path.write_text(path.read_text().replace("0.5", "1.0"))
    assert asked(kept) == 1


def test_a_kept_verdict_that_cannot_be_read_is_asked_again(tmp_path: Path) -> None:
    """Its digest is right, its content is of another time."""
    grade_all(ScriptedJudge(GOOD), answers("a"), judge={"cache_path": str(tmp_path)})
    (path,) = tmp_path.rglob("*.json")
    VerdictCache(tmp_path).put(path.stem, {"verdict": {"result": "high"}, "model": ""})
    assert asked(tmp_path) == 1


def test_a_folder_that_cannot_be_written_costs_no_grade(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    grades = grade_all(ScriptedJudge(GOOD), answers("a", "b"), judge={"cache_path": str(blocked)})
    assert [grade.score for grade in grades] == [0.5, 0.5]
    assert caplog.text.count("verdicts cannot be kept there") == 1


def put_all(folder: str, offset: int) -> None:
    cache = VerdictCache(Path(folder))
    for number in range(50):
        cache.put(digest(number), {"verdict": {"result": number}, "model": str(offset)})


def test_processes_may_share_a_folder(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        list(pool.map(put_all, [str(tmp_path)] * 3, range(3)))
    cache = VerdictCache(tmp_path)
    found = [cache.get(digest(number)) for number in range(50)]
    assert [each["verdict"]["result"] for each in found if each] == list(range(50))
    assert not list(tmp_path.rglob("*.part"))


def test_no_question_and_no_key_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-canary-0123456789")
    row = Submission.of_text("a private answer", {"reference": "a private reference"})
    judge = {"cache_path": str(tmp_path), "api_key_env": "JUDGE_KEY", "headers": {"X-Token": "${JUDGE_KEY}"}}
    grade_all(ScriptedJudge(GOOD), [row], judge=judge)
    (path,) = tmp_path.rglob("*.json")
    assert json.loads(path.read_text())["verdict"]["verdict"]["result"] == 0.5
    assert "canary" not in path.read_text()
    assert "private" not in path.read_text()


def test_a_verdict_is_found_for_the_same_rendered_question_only() -> None:
    """Rows differ, and the template shows nothing of it: it is one question."""
    judge = ScriptedJudge(GOOD)
    rows = [Submission.of_text("a", {"reference": "42", "id": str(number)}) for number in range(3)]
    grade_all(judge, rows, input=QUESTION)
    assert len(judge.requests) == 1
