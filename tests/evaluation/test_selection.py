from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agentrl.evaluation.selection import Ranked, Selection
from agentrl.policy.checkpoint import load_weights
from agentrl.policy.policy import Policy
from tests.tiny import tiny_policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


def offer(selection: Selection, policy: Policy, *rewards: float, start: int = 0) -> None:
    """As if the policy had been measured after step 0, 1, 2, ...; its weights say which step it was."""
    for step, reward in enumerate(rewards, start=start):
        with torch.no_grad():
            next(policy.model.parameters()).fill_(step)
        selection.offer(policy, Ranked(step, reward))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("policy-*"))


def best_weights(selection: Selection) -> float:
    other = tiny_policy(seed=1)
    load_weights(selection.best_path, other)
    return float(next(other.model.parameters()).detach().mean())


def test_the_best_by_validation_is_chosen_not_the_last(tmp_path: Path, policy: Policy) -> None:
    selection = Selection(tmp_path, keep=3)
    offer(selection, policy, 0.1, 0.5, 0.9, 0.2, 0.6)
    assert selection.best == Ranked(2, 0.9)
    assert best_weights(selection) == 2
    assert [each.step for each in selection.ranked] == [2, 4, 1]
    selection.tidy()
    assert names(tmp_path) == ["policy-000001", "policy-000002", "policy-000004"]


def test_of_equals_the_earlier_is_the_best(tmp_path: Path, policy: Policy) -> None:
    selection = Selection(tmp_path, keep=2)
    offer(selection, policy, 0.5, 0.5, 0.5)
    assert [each.step for each in selection.ranked] == [0, 1]
    assert best_weights(selection) == 0
    assert not selection.path(2).exists()


def test_what_an_earlier_checkpoint_would_go_back_to_is_kept(tmp_path: Path, policy: Policy) -> None:
    selection = Selection(tmp_path, keep=1)
    offer(selection, policy, 0.1, 0.2)
    earlier = selection.state()
    offer(selection, policy, 0.3, start=2)
    selection.tidy(needed=[int(step or 0) for step, *_ in earlier])
    assert names(tmp_path) == ["policy-000001", "policy-000002"]
    selection.restore(earlier)
    assert best_weights(selection) == 1


def test_a_step_that_is_measured_again_counts_once_with_its_new_figure(tmp_path: Path, policy: Policy) -> None:
    selection = Selection(tmp_path, keep=3)
    offer(selection, policy, 0.1, 0.9)
    offer(selection, policy, 0.05, start=1)
    assert selection.ranked == [Ranked(0, 0.1), Ranked(1, 0.05)]
    assert best_weights(selection) == 0


def test_a_policy_that_somebody_deleted_is_out_of_the_race(tmp_path: Path, policy: Policy) -> None:
    selection = Selection(tmp_path, keep=3)
    offer(selection, policy, 0.1, 0.9)
    state = selection.state()
    selection.path(1).rename(tmp_path / "elsewhere")
    selection.restore(state)
    assert selection.best == Ranked(0, 0.1)
    assert best_weights(selection) == 0


def test_the_hold_out_chooses_the_best_neither_the_score_nor_the_last(tmp_path: Path, policy: Policy) -> None:
    selection = Selection(tmp_path, keep=3)
    for step, (reward, holdout) in enumerate([(0.2, 0.2), (0.5, 0.6), (0.9, 0.4), (1.0, 0.1)]):
        with torch.no_grad():
            next(policy.model.parameters()).fill_(step)
        selection.offer(policy, Ranked(step, reward, holdout))
    assert selection.best == Ranked(1, 0.5, 0.6)
    assert best_weights(selection) == 1
    assert [each.step for each in selection.ranked] == [1, 2, 0]
    resumed = Selection(tmp_path, keep=3)
    resumed.restore(selection.state())
    assert resumed.ranked == selection.ranked
    assert best_weights(resumed) == 1


def test_policies_ranked_by_other_graders_are_out_of_the_race(tmp_path: Path, policy: Policy) -> None:
    selection = Selection(tmp_path, keep=3)
    offer(selection, policy, 0.1, 0.9)
    selection.forget()
    offer(selection, policy, 0.2, start=2)
    assert selection.ranked == [Ranked(2, 0.2)]
    assert best_weights(selection) == 2
