"""What two measurements must share, and how a difference is told."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.errors import ConfigError
from agentrl.evaluation.conditions import conditions, differing_conditions, refuse_other_conditions, tasks_digest
from agentrl.types import Task
from tests.factories import make_task

CONFIG: dict[str, Any] = {
    "tools": {
        "endpoints": [{"name": "search", "server_url": "{serve}/search", "headers": {"Authorization": "secret-1"}}],
        "python": [{"function": "tools:add"}],
        "mcp": [{"name": "notes", "command": ["notes"], "env": {"TOKEN": "secret-2"}}],
        "serve": [{"command": ["server"]}],
    },
    "grading": {"pass_threshold": 0.75},
    "rollout": {"max_turns": 12},
    "inference": {"temperature": 1.0, "top_p": 1.0, "top_k": None, "max_batch": 8},
    "ppo": {"learning_rate": 1e-5},
}
VERSIONS: dict[str, Any] = {
    "model": "sha256:1",
    "tools": {"search": "2024"},
    "graders": {"finqa": "sha256:2"},
    "grader": None,
    "rubric": None,
}
TASKS = (make_task("a"), make_task("b", path="p"))


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**CONFIG, section: {**CONFIG[section], **values}}


BEFORE = conditions(CONFIG, VERSIONS, TASKS)


def keys(config: dict[str, Any] = CONFIG, versions: dict[str, Any] = VERSIONS, tasks: Any = TASKS) -> list[str]:
    return [each.key for each in differing_conditions(BEFORE, conditions(config, versions, tasks))[0]]


def test_samples_and_the_order_of_tasks_are_no_difference() -> None:
    assert keys(tasks=(TASKS[1], TASKS[0], TASKS[0])) == []
    assert tasks_digest(TASKS).endswith("(2 items)")


@pytest.mark.parametrize(
    "tasks",
    [
        TASKS[:1],
        (TASKS[0], Task("c", TASKS[1].messages, TASKS[1].item)),
        (TASKS[0], Task("b", ({"role": "user", "content": "Another?"},), TASKS[1].item)),
        (TASKS[0], make_task("b", path="another")),
    ],
)
def test_other_tasks_are_told_by_their_digest(tasks: tuple[Task, ...]) -> None:
    assert keys(tasks=tasks) == ["tasks"]


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (changed("rollout", max_turns=6), "rollout.max_turns"),
        (changed("inference", temperature=0.5), "inference.temperature"),
        (changed("grading", pass_threshold=0.5), "pass_threshold"),
        (changed("tools", endpoints=[{"name": "search", "server_url": "x"}]), "tools.endpoints.search.server_url"),
        (changed("tools", python=[{"function": "tools:sub"}]), "tools.python.tools:add.function"),
    ],
)
def test_what_policies_are_measured_with_is_compared_by_key(config: dict[str, Any], key: str) -> None:
    assert key in keys(config)


@pytest.mark.parametrize(
    ("versions", "key"),
    [
        ({"tools": {"search": "2025"}}, "tools.versions.search"),
        ({"graders": {"finqa": "sha256:3"}}, "graders.finqa"),
        ({"grader": "v2"}, "graders.version"),
        ({"rubric": "v2"}, "rubric"),
    ],
)
def test_versions_that_endpoints_tell_are_conditions(versions: dict[str, Any], key: str) -> None:
    assert keys(versions={**VERSIONS, **versions}) == [key]


def test_the_policy_and_how_it_was_trained_are_none() -> None:
    assert keys({**CONFIG, "ppo": {"learning_rate": 1.0}}, {**VERSIONS, "model": "sha256:9", "tokenizer": "x"}) == []
    assert keys(changed("inference", max_batch=64)) == []


def test_no_secret_is_kept() -> None:
    assert "secret" not in repr(BEFORE)


def test_every_difference_is_named_with_the_option_that_allows_it() -> None:
    after = conditions(changed("rollout", max_turns=6), {**VERSIONS, "tools": {}}, TASKS)
    with pytest.raises(ConfigError) as raised:
        refuse_other_conditions(("old.json", "new.json"), BEFORE, after)
    message = str(raised.value)
    assert "rollout.max_turns: 12 in old.json, 6 in new.json" in message
    assert "tools.versions.search: '2024' in old.json, absent in new.json" in message
    assert "--allow-difference rollout.max_turns" in message
    assert "object at" not in message


def test_a_section_allows_all_below_it_and_nothing_beside_it() -> None:
    after = conditions(changed("rollout", max_turns=6, max_tool_calls=3), VERSIONS, TASKS)
    allowed = refuse_other_conditions(("a", "b"), BEFORE, after, ["rollout"])
    assert [each.key for each in allowed] == ["rollout.max_tool_calls", "rollout.max_turns"]
    with pytest.raises(ConfigError, match="max_turns"):
        refuse_other_conditions(("a", "b"), BEFORE, after, ["rollout.max_tool_calls"])


def test_what_is_allowed_and_no_condition_is_refused_also_where_nothing_differs() -> None:
    for key in ("roll", "rollout.max_turn", "foo"):
        with pytest.raises(ConfigError, match=f"allow-difference {key}: names no condition.*allowed: graders"):
            refuse_other_conditions(("a", "b"), BEFORE, BEFORE, [key])
    with pytest.raises(ConfigError, match=r"did you mean 'rollout\.max_turns'"):
        refuse_other_conditions(("a", "b"), BEFORE, BEFORE, ["rollout.max_turn"])
    assert refuse_other_conditions(("a", "b"), BEFORE, BEFORE, ["tools", "rollout.max_turns", "tools.versions"]) == []


def test_a_config_without_the_sections_has_conditions_too() -> None:
    assert conditions({}, {}, ())["graders"] == {"version": None}


def test_an_empty_section_is_none() -> None:
    assert differing_conditions({"tools": {}}, {}) == ([], [])
    found, _ = differing_conditions({}, {"rollout": {"max_turns": 3}})
    assert [each.key for each in found] == ["rollout.max_turns"]


def test_no_secret_of_a_tool_is_a_condition() -> None:
    tools = {
        "endpoints": [
            {
                "name": "search",
                "server_url": "https://u:hunter1@box/search?corpus=10k&api_key=hunter2",
                "headers": {"Authorization": "hunter3"},
                "check_arguments": {"password": "hunter4"},
            }
        ],
        "mcp": [
            {
                "name": "notes",
                "command": ["npx", "--token=hunter5", "--api-key", "hunter6", "-v"],
                "env": {"K": "hunter7"},
            },
            {"name": "wiki", "url": "http://box/mcp?access_token=hunter8"},
        ],
    }
    found = conditions({"tools": tools}, {}, ())["tools"]
    assert "hunter" not in repr(found)
    assert found["endpoints"]["search"]["server_url"] == "https://box/search?corpus=10k&api_key=***"
    assert found["mcp"]["notes"]["command"] == ["npx", "--token=***", "--api-key", "***", "-v"]
    assert conditions({"tools": tools | {"mcp": [{"name": "n", "command": ["a", "${KEY}"]}]}}, {}, ())["tools"]["mcp"][
        "n"
    ]["command"] == ["a", "${KEY}"]
