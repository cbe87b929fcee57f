from __future__ import annotations

import json

import pytest

from benchmarks import gpu


def test_the_benchmark_of_a_card_runs_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu", "--tiny", "--json", "--device", "cpu"])
    gpu.main()
    result = json.loads(capsys.readouterr().out)
    assert result["packs"]
    assert result["update"]["mfu"] > 0
    assert result["decode"]["share_of_bound"] > 0
    assert 0 < result["mismatch_abs_logprob_mean"] < 0.1  # two precisions of one model
