"""What training keeps of every token that it learned from, and that keeping it changes and stops nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.errors import CheckpointError
from agentrl.ppo.experience import Experience
from agentrl.ppo.recording import token_facts
from agentrl.runs import token_facts as files
from agentrl.runs.files import read_rollouts
from agentrl.runs.token_facts import TokenFacts, read_token_facts, token_facts_path, write_token_facts
from agentrl.runs.traces import from_trace
from agentrl.training import train
from agentrl.types import Rollout, Trajectory
from tests.tiny import make_trainer, sampled_trajectories, tiny_policy
from tests.toy_run import toy_run


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def facts_of(rollout_id: str = "trace_1", **changed: Any) -> TokenFacts:
    numbers = ((0.5, -1.25), (3.0,))
    return replace(TokenFacts(rollout_id, numbers, numbers, numbers, numbers), **changed)


# The file


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = [facts_of("trace_1"), facts_of("trace_11", values=None, advantages=((None,), ()), is_trusted=False)]
    write_token_facts(tmp_path, "train-000003", written)
    for each in written:
        assert read_token_facts(tmp_path, "train-000003", each.rollout_id) == each


def test_what_a_step_drew_again_is_in_the_steps_file(tmp_path: Path) -> None:
    write_token_facts(tmp_path, "train-000003", [facts_of()])
    assert read_token_facts(tmp_path, "train-000003-again-2", "trace_1") == facts_of()


@pytest.mark.parametrize("file", ["train-000004", "validation-best", "withheld", "../train-000003"])
def test_what_no_update_learned_from_has_no_facts(tmp_path: Path, file: str) -> None:
    write_token_facts(tmp_path, "train-000003", [facts_of()])
    assert read_token_facts(tmp_path, file, "trace_1") is None
    assert read_token_facts(tmp_path, "train-000003", "trace_2") is None


def test_a_step_that_is_taken_again_replaces_its_facts(tmp_path: Path) -> None:
    write_token_facts(tmp_path, "train-000003", [facts_of("trace_1")])
    write_token_facts(tmp_path, "train-000003", [facts_of("trace_2")])
    assert read_token_facts(tmp_path, "train-000003", "trace_1") is None
    assert read_token_facts(tmp_path, "train-000003", "trace_2") == facts_of("trace_2")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write_token_facts(tmp_path, "train-000003", [facts_of()])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"train-000003\.jsonl\.gz is damaged"):
        read_token_facts(tmp_path, "train-000003", "trace_2")


# What an update tells

CRITIC_FREE = {"value_coef": 0.0, "whiten_advantages": False, "critic_warmup_steps": 0}


class Kept:
    """The facts of one update, and what it was made of."""

    def __init__(self, trajectories: Sequence[Trajectory], **config: Any) -> None:
        trainer = make_trainer(tiny_policy(), **config)
        self.config, self.policy = trainer.config, trainer.policy
        trainer.keep = self.keep
        trainer.update(trajectories)

    def keep(self, learned: Sequence[Trajectory], experience: Experience) -> None:
        self.learned, self.experience = learned, experience
        self.facts = list(token_facts(learned, experience, self.config))


@pytest.mark.parametrize("advantage", ["token_gae", "turn_gae", "grpo", "rloo", "gigpo"])
def test_every_token_that_was_learned_from_has_what_the_loss_used(advantage: str) -> None:
    trajectories = sampled_trajectories(tiny_policy())
    options = {} if advantage.endswith("gae") else CRITIC_FREE
    kept = Kept(trajectories, advantage=advantage, microbatch_tokens=40, **options)
    assert [each.rollout_id for each in kept.facts] == [each.rollout_id for each in trajectories]
    for row, (facts, trajectory) in enumerate(zip(kept.facts, trajectories, strict=True)):
        for found, tensor in (
            (facts.advantages, kept.experience.advantages),
            (facts.logprobs, kept.experience.old_logprobs),
            (facts.ref_logprobs, kept.experience.ref_logprobs),
            (facts.values, kept.experience.values),
        ):
            if found is None:
                assert advantage in ("grpo", "rloo", "gigpo")
                continue
            for turn, values in enumerate(found):
                places = [t for t, of in enumerate(trajectory.turn_ids) if of == turn]
                assert values == pytest.approx(tensor[row][places].tolist(), rel=1e-4, abs=1e-12)


def test_whitened_advantages_are_told_whitened() -> None:
    kept = Kept(sampled_trajectories(tiny_policy()), whiten_advantages=True)
    advantages = torch.tensor([each for facts in kept.facts for turn in facts.advantages for each in turn])
    assert float(advantages.mean()) == pytest.approx(0, abs=1e-4)
    assert float(advantages.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_without_a_critic_there_are_no_values_and_groups_without_signal_are_missing() -> None:
    both = sampled_trajectories(tiny_policy(), 4)
    flat = [replace(each, task_id="flat", reward=1.0) for each in sampled_trajectories(tiny_policy(), 4, seed=1)]
    kept = Kept([*flat[:2], *both, *flat[2:]], advantage="grpo", **CRITIC_FREE)
    assert [each.rollout_id for each in kept.facts] == [each.rollout_id for each in both]
    assert all(each.values is None for each in kept.facts)


def test_what_the_mismatch_filters_dropped_says_so() -> None:
    trusted, *others = sampled_trajectories(tiny_policy(), 4)
    doubtful = replace(trusted, rollout_id="off", engine_logprobs=tuple(10 * each for each in trusted.engine_logprobs))
    kept = Kept([doubtful, trusted, *others], mismatch_trajectory_range=(0.99, 1.01))
    assert {each.rollout_id: each.is_trusted for each in kept.facts} == {
        "off": False, **{each.rollout_id: True for each in (trusted, *others)}
    }  # fmt: skip


def test_what_is_not_finite_is_told_as_missing() -> None:
    kept = Kept(sampled_trajectories(tiny_policy(), 2))
    broken = replace(kept.experience, advantages=torch.full_like(kept.experience.advantages, math.nan))
    facts = next(token_facts(kept.learned, broken, kept.config))
    assert {each for turn in facts.advantages for each in turn} == {None}


def test_being_shown_an_update_does_not_change_it() -> None:
    unseen = make_trainer(tiny_policy(), minibatches=2)
    unseen.update(sampled_trajectories(tiny_policy()))
    seen = Kept(sampled_trajectories(tiny_policy()), minibatches=2).policy
    for (_, one), (_, other) in zip(unseen.policy.named_parameters(), seen.named_parameters(), strict=True):
        assert torch.equal(one, other)


# A run


def small(folder: Path, baseline: Path, **changes: dict[str, Any]) -> Any:
    ppo = {"steps": 2, "tasks_per_step": 3, "samples_per_task": 2, "critic_warmup_steps": 2, **changes.pop("ppo", {})}
    quick = {"every_steps": 2, "samples_per_item": 1, "validation_items": 2, "run_test": False}
    return toy_run(folder, baseline, ppo=ppo, evaluation=quick, **changes)


def learned(run: Path, step: int) -> list[Rollout]:
    found = map(from_trace, read_rollouts(run, f"train-{step:06d}"))
    return [each for each in found if each.is_valid and each.output_tokens]


def test_a_run_keeps_the_facts_of_every_batch_that_it_learned_from_and_a_resumed_one_too(
    tmp_path: Path, baseline: Path
) -> None:
    run = tmp_path / "run"
    train(small(tmp_path, baseline, ppo={"steps": 1}), run_dir=run)
    train(small(tmp_path, baseline), run_dir=run, resume=True)
    assert sorted(path.name for path in (run / "tokens").iterdir()) == [
        "train-000001.jsonl.gz",
        "train-000002.jsonl.gz",
    ]
    for step in (1, 2):
        assert learned(run, step)
        for rollout in learned(run, step):
            facts = read_token_facts(run, f"train-{step:06d}", rollout.id)
            assert facts is not None
            assert facts.values is not None
            for numbers in (facts.advantages, facts.values, facts.logprobs, facts.ref_logprobs):
                assert [len(turn) for turn in numbers] == [len(turn.token_ids) for turn in rollout.turns]
            for turn, logprobs, ref in zip(rollout.turns, facts.logprobs, facts.ref_logprobs, strict=True):
                assert logprobs == pytest.approx(turn.engine_logprobs, abs=1e-3)
                if step == 1:  # the policy is the reference still
                    assert ref == pytest.approx(logprobs, abs=1e-4)


def test_an_overlapped_run_keeps_them_beside_the_next_rollouts(tmp_path: Path, baseline: Path) -> None:
    run = tmp_path / "run"
    ppo = {"overlap": True, "max_staleness": 1, "advantage": "rloo", **CRITIC_FREE}
    train(small(tmp_path, baseline, ppo=ppo), run_dir=run)
    for step in (1, 2):
        told = [read_token_facts(run, f"train-{step:06d}", each.id) for each in learned(run, step)]
        assert any(told)  # those of groups whose rewards differ
        assert all(each.values is None for each in told if each)


def test_a_disk_that_refuses_them_stops_nothing(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, lines: Iterable[str]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_packed_lines", full)
    result = train(small(tmp_path, baseline, ppo={"steps": 1}), run_dir=tmp_path / "run")
    assert result.stopped_by is None
    assert result.summary["lost_rollouts"] == ["tokens/train-000001"]
    assert not token_facts_path(tmp_path / "run", "train-000001").exists()


def test_a_run_that_should_not_keep_them_has_none(tmp_path: Path, baseline: Path) -> None:
    config = small(tmp_path, baseline, ppo={"steps": 1}, checkpoint={"token_facts": False})
    assert train(config, run_dir=tmp_path / "run").stopped_by is None
    assert not (tmp_path / "run" / "tokens").exists()
