"""Scores of different graders are never put together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentrl.errors import ConfigError
from agentrl.grading.versions import grade_versions, one_version, same_grader, shown
from agentrl.types import Grade
from tests.factories import make_rollout

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def test_graded_rollouts_are_sorted_by_version() -> None:
    grades = [Grade(1.0, version=A), Grade(0.5, version=B), Grade(None, "down", version=B), Grade(0.0, version=A)]
    rollouts = [make_rollout(sample_index=n, grade=grade) for n, grade in enumerate(grades)]
    found = grade_versions(rollouts)
    assert {version: [each.sample_index for each in group] for version, group in found.items()} == {A: [0, 3], B: [1]}


def test_two_versions_are_refused_by_name() -> None:
    with pytest.raises(ConfigError) as error:
        one_version("pairs", [(A, "runs/one"), (A, "runs/two"), (B, "runs/three")])
    assert str(error.value).startswith(
        "pairs: found grades of different grader versions, sha256:aaaaaaaaaaaa in runs/one and "
        "sha256:bbbbbbbbbbbb in runs/three; grade all of it with one grader first"
    )


def test_one_version_or_none_is_fine() -> None:
    assert one_version("pairs", [(A, "x"), (A, "y")]) == A
    assert one_version("pairs", []) == ""
    assert one_version("pairs", [("", "x"), ("", "y")]) == ""


def test_an_unrecorded_version_is_no_other_version() -> None:
    with pytest.raises(ConfigError, match="an unrecorded version in old and sha256:aaaaaaaaaaaa in new"):
        one_version("pairs", {"": "old", A: "new"})


def test_what_a_server_tells_is_part_of_the_version() -> None:
    assert same_grader(f"{A} version=2", A)
    assert not same_grader(A, B)
    assert shown(f"{A} version=2") == "sha256:aaaaaaaaaaaa version=2"
    with pytest.raises(ConfigError, match="version=1 in x and sha256:aaaaaaaaaaaa version=2 in y"):
        one_version("pairs", [(f"{A} version=1", "x"), (f"{A} version=2", "y")])


def test_a_regraded_rollout_changes_its_group() -> None:
    rollout = make_rollout(grade=Grade(1.0, version=A))
    assert list(grade_versions([replace(rollout, grade=Grade(1.0, version=B))])) == [B]
