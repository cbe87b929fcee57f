from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentrl.config import CheckpointConfig, LoRAConfig, PolicyConfig
from agentrl.errors import CheckpointError
from agentrl.policy.checkpoint import save_checkpoint, save_policy
from agentrl.training.room import checkpoint_bytes, lack_of_room, policy_bytes
from tests.tiny import make_trainer, sampled_trajectories, tiny_policy


def bytes_of(folder: Path, *names: str) -> int:
    return sum(path.stat().st_size for name in names for path in folder.rglob(name))


@pytest.mark.parametrize("lora", [None, LoRAConfig(rank=4, alpha=8)], ids=["full weights", "lora"])
def test_the_estimate_is_what_the_files_take(tmp_path: Path, lora: LoRAConfig | None) -> None:
    trainer = make_trainer(tiny_policy(config=PolicyConfig(value_hidden_size=16, lora=lora)))
    trainer.update(sampled_trajectories(trainer.policy, 4))
    save_checkpoint(tmp_path / "c", trainer.policy, trainer.optimizer_tensors(), {})
    save_policy(trainer.policy, tmp_path / "p")
    names, headers = "*.safetensors", 0.4  # of these small files
    assert checkpoint_bytes(trainer.policy) == pytest.approx(bytes_of(tmp_path / "c", names), rel=headers)
    assert policy_bytes(trainer.policy) == pytest.approx(bytes_of(tmp_path / "p", "model.safetensors"), rel=headers)


def test_a_disk_without_room_is_told_of_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy()
    one, best = checkpoint_bytes(policy), policy_bytes(policy)
    config = CheckpointConfig(every_steps=5, keep_last=2, keep_best=3, keep_every_steps=10)

    def lack(free: int) -> str:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        return lack_of_room(tmp_path, policy, config, steps=40)

    needed = (3 + 4) * one + 4 * best
    assert lack(needed) == ""
    assert "lower checkpoint.keep_last or checkpoint.keep_best" in lack(needed - 1)
    assert lack(one + best) != ""
    with pytest.raises(CheckpointError, match="make room, or choose another --run-dir"):
        lack(one + best - 1)
