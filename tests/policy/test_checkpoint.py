from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.errors import CheckpointError
from agentrl.policy.checkpoint import (
    load_checkpoint,
    load_weights,
    newest_checkpoint,
    prune,
    read_state,
    save_checkpoint,
    save_policy,
)
from agentrl.policy.folders import damage, point, recover
from agentrl.policy.policy import Policy, folder_digest, weights_digest
from agentrl.ppo.trainer import PPOTrainer
from tests.tiny import make_trainer, sampled_trajectories, tiny_policy

STATE = {"step": 5, "kl_coef": 0.07, "best_reward": 0.1234567890123}


def trained(updates: int = 1) -> PPOTrainer:
    trainer = make_trainer(tiny_policy(), minibatches=2)
    for step in range(updates):
        trainer.update(sampled_trajectories(trainer.policy, 6, seed=step))
    return trainer


def save(trainer: PPOTrainer, folder: Path, **state: Any) -> None:
    save_checkpoint(folder, trainer.policy, trainer.optimizer_tensors(), {**STATE, **state})


def digest_of(policy: Policy) -> str:
    return policy.digest() + weights_digest(policy.value_head)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_comes_back_bitwise(tmp_path: Path) -> None:
    trainer = trained()
    save(trainer, tmp_path / "step-000005")
    other = tiny_policy(seed=9)
    assert digest_of(other) != digest_of(trainer.policy)
    tensors, state = load_checkpoint(tmp_path / "step-000005", other)
    assert digest_of(other) == digest_of(trainer.policy)
    assert state == STATE
    expected = trainer.optimizer_tensors()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


def test_a_bfloat16_policy_comes_back_bitwise(tmp_path: Path) -> None:
    policy, other = tiny_policy(dtype=torch.bfloat16), tiny_policy(seed=9, dtype=torch.bfloat16)
    save_checkpoint(tmp_path / "c", policy, {}, STATE)
    assert load_checkpoint(tmp_path / "c", other)[0] == {}
    assert digest_of(other) == digest_of(policy)


def test_loading_keeps_the_policys_own_tensors(tmp_path: Path) -> None:
    save(trained(), tmp_path / "c")
    policy = tiny_policy(seed=9)
    before = {name: parameter.data_ptr() for name, parameter in policy.named_parameters()}
    load_checkpoint(tmp_path / "c", policy)  # the engine and the optimiser hold on to them
    assert {name: parameter.data_ptr() for name, parameter in policy.named_parameters()} == before


def test_going_on_from_a_checkpoint_equals_not_stopping_bitwise(tmp_path: Path) -> None:
    whole = trained(updates=5)
    first = trained(updates=3)
    save(first, tmp_path / "c", version=first.policy.version)

    second = make_trainer(tiny_policy(), minibatches=2)  # fresh objects, as after a restart; same baseline
    tensors, state = load_checkpoint(tmp_path / "c", second.policy)
    second.load_optimizer_tensors(tensors)
    second.policy.version = state["version"]
    for step in (3, 4):
        second.update(sampled_trajectories(second.policy, 6, seed=step))
    assert digest_of(second.policy) == digest_of(whole.policy)
    expected = whole.optimizer_tensors()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in second.optimizer_tensors().items())


def test_without_the_optimisers_state_going_on_would_differ(tmp_path: Path) -> None:
    whole, first = trained(updates=5), trained(updates=3)
    save(first, tmp_path / "c")
    second = make_trainer(tiny_policy(), minibatches=2)
    load_checkpoint(tmp_path / "c", second.policy)
    second.policy.version = 3
    for step in (3, 4):
        second.update(sampled_trajectories(second.policy, 6, seed=step))
    assert digest_of(second.policy) != digest_of(whole.policy)


def test_optimiser_state_of_another_model_is_refused() -> None:
    tensors = trained().optimizer_tensors()
    small = make_trainer(tiny_policy(hidden_size=16))
    with pytest.raises(CheckpointError, match="does not fit the policy"):
        small.load_optimizer_tensors(tensors)
    with pytest.raises(CheckpointError, match=r"model\.unknown"):
        small.load_optimizer_tensors({"model.unknown/exp_avg": torch.zeros(3)})


def test_restored_optimiser_state_is_the_optimisers_own() -> None:
    first = trained()
    tensors = first.optimizer_tensors()
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    second = make_trainer(tiny_policy())
    second.load_optimizer_tensors(tensors)
    second.update(sampled_trajectories(second.policy, 6))
    assert all(torch.equal(tensors[name], copies[name]) for name in tensors)


# Damage


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def delete(path: Path) -> None:
    path.unlink()


FILES = (
    "policy/model.safetensors",
    "policy/config.json",
    "policy/tokenizer.json",
    "value_head.safetensors",
    "optimizer.safetensors",
    "state.json",
    "digests.json",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("hurt", [flip_a_byte, truncate, delete])
def test_a_damaged_checkpoint_is_refused_and_an_older_one_used(tmp_path: Path, hurt: Any, name: str) -> None:
    policy = tiny_policy()
    for step in (5, 10):
        save_checkpoint(tmp_path / f"step-{step:06d}", policy, {"a": torch.zeros(9)}, STATE)
    newer = tmp_path / "step-000010"
    hurt(newer / name)
    folder, complaints = newest_checkpoint(tmp_path)
    assert folder == tmp_path / "step-000005"
    assert len(complaints) == 1
    assert "step-000010" in complaints[0]
    before = digest_of(policy)
    with pytest.raises(CheckpointError, match="step-000010"):
        load_checkpoint(newer, policy)
    assert digest_of(policy) == before


def test_a_file_too_many_is_damage(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", tiny_policy(), {}, STATE)
    assert damage(tmp_path / "c") == ""
    (tmp_path / "c" / "policy" / "more.json").write_text("{}", encoding="utf-8")
    assert "policy/more.json" in damage(tmp_path / "c")


def test_without_any_whole_checkpoint_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere") == (None, [])
    (tmp_path / "step-000001").mkdir()
    folder, complaints = newest_checkpoint(tmp_path)
    assert folder is None
    assert "never finished" in complaints[0]


@pytest.mark.parametrize("change", [{"hidden_size": 16}, {"num_hidden_layers": 3}])
def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path, change: dict[str, int]) -> None:
    save_checkpoint(tmp_path / "c", tiny_policy(), {}, STATE)
    with pytest.raises(CheckpointError, match="does not fit the policy"):
        load_checkpoint(tmp_path / "c", tiny_policy(**change))


def test_a_critic_of_another_width_is_refused(tmp_path: Path) -> None:
    from agentrl.config import PolicyConfig

    save_checkpoint(tmp_path / "c", tiny_policy(), {}, STATE)
    with pytest.raises(CheckpointError, match="does not fit the policy"):
        load_checkpoint(tmp_path / "c", tiny_policy(config=PolicyConfig(value_hidden_size=8)))


def test_weights_that_are_not_there_are_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_weights(tmp_path / "nowhere", tiny_policy())


# Writing


@contextmanager
def disk_full_after(n_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond `n_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [10, 300, 20_000, 60_000])
def test_a_full_disk_leaves_the_old_checkpoint_whole_and_nothing_else(tmp_path: Path, n_bytes: int) -> None:
    old, new = trained(), trained(updates=2)
    save(old, tmp_path / "c")
    before = files_of(tmp_path)
    with disk_full_after(n_bytes), pytest.raises(CheckpointError, match="cannot be written"):
        save(new, tmp_path / "c")
    assert files_of(tmp_path) == before
    assert damage(tmp_path / "c") == ""
    save(new, tmp_path / "c")
    policy = tiny_policy()
    load_checkpoint(tmp_path / "c", policy)
    assert digest_of(policy) == digest_of(new.policy)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_checkpoint_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    save_checkpoint(tmp_path / "c", tiny_policy(), {}, STATE)
    before, replace, calls = files_of(tmp_path / "c"), os.replace, []

    def refuse(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == failing:
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match="cannot be written: no"):
        save_checkpoint(tmp_path / "c", tiny_policy(seed=9), {}, STATE)
    assert files_of(tmp_path / "c") == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_draft_that_a_crash_left_behind_is_no_checkpoint_and_in_nobodys_way(tmp_path: Path) -> None:
    draft = tmp_path / ".step-000005.draft"
    draft.mkdir()
    (draft / "junk").write_text("junk", encoding="utf-8")
    assert newest_checkpoint(tmp_path) == (None, [])
    save_checkpoint(tmp_path / "step-000005", tiny_policy(), {}, STATE)
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-000005", [])
    assert not draft.exists()


def test_a_saved_policy_is_an_ordinary_folder_and_replaces_the_earlier_one(tmp_path: Path) -> None:
    first, second = tiny_policy(), tiny_policy(seed=1)
    save_policy(first, tmp_path / "best")
    before = folder_digest(tmp_path / "best")
    save_policy(second, tmp_path / "best")
    assert folder_digest(tmp_path / "best") != before
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    load_weights(tmp_path / "best", first)
    assert first.digest() == second.digest()


def test_pruning_keeps_the_newest_checkpoints_those_of_every_so_many_steps_and_policies(tmp_path: Path) -> None:
    names = [f"step-{step:06d}" for step in range(0, 30, 5)]
    for name in (*names, "step-1000000", "policy-000005"):
        (tmp_path / name).mkdir()
    prune(tmp_path, keep_last=2, keep_every_steps=10)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["policy-000005", "step-000010", "step-000020", "step-000025", "step-1000000"]
    prune(tmp_path, keep_last=2)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["policy-000005", "step-000025", "step-1000000"]  # the millionth is newer, whatever its name says


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_process_killed_between_two_renames_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    class Killed(BaseException):
        """What no cleaning up follows."""

    save_checkpoint(tmp_path / "step-000005", tiny_policy(), {}, {"life": 1})
    replace, done = os.replace, []

    def replace_until_killed(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise Killed
        replace(source, target)
        done.append(target)

    monkeypatch.setattr(os, "replace", replace_until_killed)
    with pytest.raises(Killed) if renames < 2 else nullcontext():
        save_checkpoint(tmp_path / "step-000005", tiny_policy(seed=9), {}, {"life": 2})
    monkeypatch.undo()
    recover(tmp_path)
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-000005", [])
    assert read_state(tmp_path / "step-000005") == {"life": 2 if renames == 2 else 1}
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]


def test_a_pointer_leads_to_the_old_folder_or_to_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("policy-000001", "policy-000002"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    point(tmp_path / "best", "policy-000001")
    replace = os.replace

    def look_before(source: Path, target: Path) -> None:
        assert (tmp_path / "best" / "name").read_text() == "policy-000001"
        replace(source, target)
        assert (tmp_path / "best" / "name").read_text() == "policy-000002"

    monkeypatch.setattr(os, "replace", look_before)
    point(tmp_path / "best", "policy-000002")
    monkeypatch.undo()
    (tmp_path / ".best.link").symlink_to("policy-000001")  # a kill before the swap
    recover(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "policy-000001", "policy-000002"]
    with pytest.raises(CheckpointError, match="policy-000001 cannot be pointed to policy-000002"):
        point(tmp_path / "policy-000001", "policy-000002")


def test_everything_in_a_checkpoint_is_forced_to_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut may leave the name without the bytes."""
    plain, forced = os.fsync, list[str]()

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        forced.append(str(path.relative_to(tmp_path)))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    save_checkpoint(tmp_path / "c", tiny_policy(), {}, STATE)
    drafts = {name.removeprefix(".c.draft/") for name in forced if name.startswith(".c.draft/")}
    assert drafts == files_of(tmp_path / "c").keys() | {"policy"}
    assert forced[-2:] == [".c.draft", "."]


def test_digests_are_written_for_every_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", tiny_policy(), {}, STATE)
    recorded = json.loads((tmp_path / "c" / "digests.json").read_text(encoding="utf-8"))
    assert recorded.keys() == files_of(tmp_path / "c").keys() - {"digests.json"}


def test_pruning_keeps_the_checkpoint_that_a_run_may_have_to_go_back_to(tmp_path: Path) -> None:
    for step in range(0, 30, 5):
        (tmp_path / f"step-{step:06d}").mkdir()
    prune(tmp_path, keep_last=2, needed_step=12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000010", "step-000020", "step-000025"]
