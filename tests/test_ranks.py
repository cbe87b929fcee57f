from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.policy.ranks import Ranks
from tests.rank_jobs import CASES, Outcome, play, play_all, together

pytestmark = pytest.mark.slow

KINDS = ("replicated", "sharded")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case, played by two processes; that this ends says that none of them waits for ever."""
    folder = tmp_path_factory.mktemp("ranks")
    together(play_all, folder, folder=folder)
    return folder


@pytest.fixture(scope="module")
def alone() -> dict[str, Outcome]:
    torch.set_num_threads(1)
    return {name: play(case, Ranks()) for name, case in CASES.items()}


def outcome(folder: Path, kind: str, name: str, rank: int) -> Outcome:
    found = torch.load(folder / f"{kind}-{name}-{rank}.pt", weights_only=False)
    assert isinstance(found, Outcome)
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_what_one_trains(played: Path, alone: dict[str, Outcome], kind: str, name: str) -> None:
    for rank in (0, 1):
        found, wanted = outcome(played, kind, name, rank), alone[name]
        assert found.weights.keys() == wanted.weights.keys()
        for key, weight in wanted.weights.items():
            torch.testing.assert_close(
                found.weights[key], weight, rtol=0, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
            )
        assert found.warmed_up == pytest.approx(wanted.warmed_up, abs=1e-4)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_report_the_metrics_of_one(played: Path, alone: dict[str, Outcome], kind: str, name: str) -> None:
    for rank in (0, 1):
        for found, wanted in zip(outcome(played, kind, name, rank).metrics, alone[name].metrics, strict=True):
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimizer_state_of_two_processes_is_that_of_one(
    played: Path, alone: dict[str, Outcome], kind: str
) -> None:
    wanted = alone["several microbatches"].optimizer
    found = outcome(played, kind, "several microbatches", 0).optimizer
    assert {key: tensor.shape for key, tensor in found.items()} == {k: tensor.shape for k, tensor in wanted.items()}
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["several microbatches", "adapters"])
def test_the_reference_has_one_digest_in_shards_or_not(
    played: Path, alone: dict[str, Outcome], kind: str, name: str
) -> None:
    assert {*outcome(played, kind, name, 0).digests, *alone[name].digests} == {alone[name].digests[0]}


def test_layers_may_stay_gathered_between_forward_and_backward_pass(played: Path) -> None:
    one, other = (outcome(played, kind, "several microbatches", 0) for kind in ("sharded", "sharded, kept gathered"))
    for key, weight in one.weights.items():
        torch.testing.assert_close(other.weights[key], weight, rtol=0, atol=1e-7)


def rollouts(folder: Path, name: str) -> list[Any]:
    """What both ranks say, which is the same."""
    one, other = (json.loads((folder / f"rollouts-{rank}.json").read_text())[name] for rank in (0, 1))
    assert one == other
    return one  # type: ignore[no-any-return]


def test_rollouts_are_shared_by_task_and_gathered_in_the_order_of_one_process(played: Path) -> None:
    found = rollouts(played, "five tasks")
    assert [(task, sample) for task, sample, _ in found] == [(f"t{n}", sample) for n in range(5) for sample in (0, 1)]
    assert [rank for _, sample, rank in found if sample == 0] == [0, 1, 0, 1, 0]
    assert all(rank == found[2 * (i // 2)][2] for i, (_, _, rank) in enumerate(found))
    assert rollouts(played, "one task") == [["t0", 0, 0], ["t0", 1, 0]]


def test_where_servers_generate_the_first_rank_rolls_out_everything(played: Path) -> None:
    assert {rank for _, _, rank in rollouts(played, "remote")} == {0}


def test_an_outage_that_one_rank_sees_is_waited_for_by_all(played: Path) -> None:
    assert len(rollouts(played, "short outage")) == 8
    assert rollouts(played, "long outage") == "outage"


def test_a_stop_that_one_rank_is_asked_for_ends_the_rollouts_of_all(played: Path) -> None:
    assert rollouts(played, "stop") == "stopped"


def test_an_error_of_the_first_ranks_work_is_everybodys(played: Path) -> None:
    for rank in (0, 1):
        assert json.loads((played / f"error-{rank}.json").read_text()) == [["disk", "no space left"]] * 2


def test_a_rank_that_fails_says_why_and_the_others_leave_in_silence(played: Path) -> None:
    assert (played / "end-1.txt").read_text() == "ConfigError: this disk has no data"
    assert (played / "end-0.txt").read_text() == "SystemExit: 1"
