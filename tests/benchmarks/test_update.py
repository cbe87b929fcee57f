from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agentrl.policy.packing import PrefixTree
from benchmarks.update import __main__ as update
from benchmarks.update.batches import finqa, long_contexts
from benchmarks.update.sides import Ours, make_checkpoint

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}


def test_both_sides_follow_one_gradient_and_are_timed_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "TOKENS_AT_ONCE", (600, 4096))
    monkeypatch.setattr(update, "ROWS_AT_ONCE", (1, 4))
    folder = make_checkpoint(tmp_path / "model", **SHAPE)
    result = update.compare_time(folder, 1, finqa(8, vocabulary=2953))
    assert result["gradients_apart"] < 1e-4
    assert result["agentrl_seconds_by_microbatch_tokens"].keys() == {600, 4096}
    assert result["trl_seconds_by_rows"].keys() == {1, 4}
    assert result["ratio"] > 0


def test_two_objectives_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = Ours.update

    def other(self: Ours, batch: update.Batch, at_once: int) -> None:
        evaluate(self, finqa(4, vocabulary=2000), at_once)

    monkeypatch.setattr(Ours, "update", other)
    with pytest.raises(SystemExit, match="two objectives"):
        update.compare_time(make_checkpoint(tmp_path / "model", **SHAPE), 1, finqa(4, vocabulary=2953))


def test_recorded_trajectories_share_what_siblings_share_and_repetitions_nothing() -> None:
    once, twice = finqa(128, vocabulary=2953), finqa(256, vocabulary=2953)
    trees = [PrefixTree.of(batch.token_ids, batch.action_mask).token_ids.numel() for batch in (once, twice)]
    assert trees[0] < once.tokens
    assert 1.9 < trees[1] / trees[0] < 2.1
    assert once.tokens * 2 == twice.tokens
    assert torch.equal(once.action_mask, twice.action_mask[:128])


def test_long_contexts_have_their_length() -> None:
    batch = long_contexts(4, length=200, vocabulary=500)
    assert batch.token_ids.shape == (4, 200)
    assert batch.prompts == [100] * 4
