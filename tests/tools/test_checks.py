"""Each defect of an endpoint is found by the check that is for it, and by no other; a good endpoint has none."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import GradingConfig, ServeConfig, ToolEndpointConfig, ToolsConfig
from agentrl.tools import serving
from agentrl.tools.checks import Finding, check_grader, check_sandbox, check_tool
from agentrl.tools.lifecycle import Lifecycle
from agentrl.types import Task

SERVER = str(Path(__file__).parents[1] / "defect_server.py")
AUTH = {"Authorization": "Bearer ${NOTES_KEY}"}
TASKS = [Task(f"q{n}", ({"role": "user", "content": "?"},), {"reference_answer": 1234.5 + n}) for n in range(3)]


def found_by(defect: str, *, arguments: Any = None, burst: int = 8, **fields: Any) -> dict[str, Finding]:
    """Findings by check; those of the grader behind `grader `."""
    tool = {"name": "note", "server_url": "{serve}/note", "headers": AUTH, "item_fields": "none", **fields}
    tool["check_arguments"] = {"text": "{marker}"} if arguments is None else arguments
    server = ServeConfig(command=("{python}", SERVER, defect), env={"NOTES_KEY": "${random}"})
    with serving([server], {}) as (base_url,):
        of_tool = asyncio.run(
            check_tool(ToolEndpointConfig.model_validate(tool), TASKS, burst=burst, base_url=base_url)
        )
        grading = GradingConfig(name="notes", url="{serve}/grade", headers=AUTH)
        of_grader = asyncio.run(check_grader(grading, TASKS, burst=burst, base_url=base_url))
    return {each.check: each for each in of_tool} | {f"grader {each.check}": each for each in of_grader}


def results(found: dict[str, Finding], *but: str) -> set[str]:
    """The results of all checks but some; what cannot be seen with these arguments is left out."""
    return {each.result for check, each in found.items() if check not in but} - {"not observed"}


def test_a_good_endpoint_has_no_defect() -> None:
    found = found_by("none")
    assert {each.result for each in found.values()} == {"ok"}
    assert list(found) == [
        *("reachable", "auth", "latency", "state", "isolation", "idempotency", "leakage", "burst"),
        *("grader reachable", "grader auth", "grader repeatability", "grader discrimination", "grader burst"),
    ]
    assert found["burst"].figures["size"] == 8
    assert 0 < found["burst"].figures["p50_seconds"] <= found["burst"].figures["p99_seconds"]
    assert found["grader repeatability"].figures["spread"] == 0


@pytest.mark.parametrize(
    ("defect", "check", "result", "detail"),
    [
        ("accepts_any_key", "auth", "warning", "a wrong key: answered 200; no key: answered 200"),
        ("loses_state", "state", "failed", "did not see the call before it"),
        ("mixes_rollouts", "isolation", "failed", "shows what another rollout wrote"),
        ("executes_twice", "idempotency", "failed", "a retry would be carried out again"),
        ("falls_over", "burst", "failed", r"calls at once: .*failed, the first with tool note at .*answered 503"),
        ("flaky_grader", "grader repeatability", "failed", "differ by up to 0.5 of 1"),
        ("blind_grader", "grader discrimination", "warning", "alone scores 0, a stand-in answer 0"),
    ],
)
def test_a_defect_is_found(defect: str, check: str, result: str, detail: str) -> None:
    found = found_by(defect, burst=32)
    assert found[check].result == result
    assert re.search(detail, found[check].detail)
    alike = {"accepts_any_key": ["grader auth"], "falls_over": ["grader burst"]}.get(defect, [])
    # the noise of a grader may also turn the two scores around
    alike += ["grader discrimination"] if defect == "flaky_grader" else []
    assert results(found, check, *alike) == {"ok"}


def test_a_leaked_answer_is_found_and_a_key_that_is_only_sent_is_warned_about() -> None:
    leaking = found_by("leaks_answer", item_fields="all")["leakage"]
    assert leaking.result == "failed"
    assert "reference_answer of q0" in leaking.detail
    sent = found_by("none", item_fields="all")["leakage"]
    assert (sent.result, "it is sent reference_answer" in sent.detail) == ("warning", True)
    assert found_by("leaks_answer", item_fields="none")["leakage"].result == "ok"


def test_without_a_marker_repeated_calls_are_compared() -> None:
    good = found_by("none", arguments={"text": "a"})
    assert (good["state"].result, good["isolation"].result) == ("ok", "ok")
    lost = found_by("loses_state", arguments={"text": "a"})["state"]
    assert (lost.result, "as if it were the first" in lost.detail) == ("warning", True)
    mixed = found_by("mixes_rollouts", arguments={"text": "a"})
    assert (mixed["state"].result, mixed["isolation"].result) == ("not observed", "not observed")
    assert "answered differently" in mixed["isolation"].detail


def test_a_tool_that_answers_alike_shows_nothing_of_state_and_isolation() -> None:
    found = found_by("forgets_everything", arguments={"text": "a"})
    assert {found[check].result for check in ("state", "isolation")} == {"not observed"}
    assert all("set check_arguments" in found[check].detail for check in ("state", "isolation"))


def test_an_endpoint_that_cannot_be_reached_is_checked_no_further() -> None:
    found = found_by("wordy_grader")
    assert [check for check in found if check.startswith("grader")] == ["grader reachable"]
    assert "found score 'good'" in found["grader reachable"].detail

    async def down() -> list[Finding]:
        tool = ToolEndpointConfig(name="note", server_url="http://127.0.0.1:1/note")
        return await check_tool(tool, TASKS, burst=2)

    (only,) = asyncio.run(down())
    assert (only.check, only.result) == ("reachable", "failed")
    assert "connection refused" in only.detail


def sandboxed(defect: str) -> list[Finding]:
    """The check of the lifecycle, then those of the tool."""
    tool = {"name": "note", "server_url": "{serve}/note", "headers": AUTH, "check_arguments": {"text": "{marker}"}}
    urls = {"open_url": "{serve}/open", "close_url": "{serve}/close", "headers": AUTH, "retries": 0}
    config = ToolsConfig.model_validate(
        {"serve": [{"command": ["{python}", SERVER, defect], "env": {"NOTES_KEY": "${random}"}}], "lifecycle": urls}
        | {"endpoints": [{**tool, "item_fields": "none"}]}
    )

    async def work(base_url: str) -> list[Finding]:
        lifecycle = Lifecycle.from_config(config, base_url)
        assert lifecycle
        found = [await check_sandbox(lifecycle, TASKS)]
        if found[0].result == "ok":
            found += await check_tool(config.endpoints[0], TASKS, burst=8, base_url=base_url, lifecycle=lifecycle)
        assert not lifecycle.unclosed or defect == "close_fails"
        return found

    with serving(config.serve, {}) as (base_url,):
        return asyncio.run(work(base_url))


def test_tools_are_called_in_a_sandbox_where_they_need_one() -> None:
    assert {(each.check, each.result) for each in sandboxed("needs_sandbox")} == {
        *(("reachable", "ok"), ("auth", "ok"), ("latency", "ok"), ("state", "ok"), ("isolation", "ok")),
        *(("idempotency", "ok"), ("leakage", "ok"), ("burst", "ok")),
    }
    without = found_by("needs_sandbox")["reachable"]
    assert (without.result, "answered 404: {" in without.detail) == ("failed", True)


@pytest.mark.parametrize(("defect", "detail"), [("open_fails", "answered 500"), ("close_fails", "could not be closed")])
def test_a_sandbox_that_cannot_be_opened_or_closed_is_found(defect: str, detail: str) -> None:
    (only,) = sandboxed(defect)
    assert (only.endpoint, only.result) == ("sandbox", "failed")
    assert detail in only.detail
