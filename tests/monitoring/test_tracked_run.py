"""A run that is tracked is the run that it would have been; whoever is told hangs, is down, or has it all."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agentrl.config import RunConfig
from agentrl.config.tracking import OpenTelemetryConfig, TrackingConfig
from agentrl.progress import SilentReporter
from agentrl.training import train
from tests.monitoring.collector import collecting
from tests.toy_run import metrics, toy_run

pytestmark = pytest.mark.slow
HUNG = "import time\n\ndef init(**_):\n    time.sleep(3600)\n"


class Listening(SilentReporter):
    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


def toy(folder: Path, baseline: Path, tracking: TrackingConfig | None) -> RunConfig:
    folder.mkdir(exist_ok=True)
    config = toy_run(
        folder,
        baseline,
        ppo={"steps": 2, "tasks_per_step": 4},
        evaluation={"every_steps": 2, "samples_per_item": 1, "run_test": False},
        inference={"deterministic": True},  # else who shares a batch, and with it the last bit, is a matter of timing
    )
    return config.model_copy(update={"tracking": tracking})


def learned(run: Path) -> list[dict[str, Any]]:
    """The metrics that no clock has a part in."""
    rows = metrics(run)
    return [
        {key: value for key, value in row.items() if not key.startswith(("seconds", "latency", "memory"))}
        for row in rows
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, baseline: Path) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    train(toy(folder, baseline, None), run_dir=folder / "run")
    return folder / "run"


def test_what_is_told_is_what_was_recorded(tmp_path: Path, baseline: Path, plain: Path) -> None:
    reporter, run = Listening(), tmp_path / "run"
    with collecting() as stub:
        tracking = TrackingConfig(
            trackers=("tensorboard",),
            finish_seconds=120.0,
            opentelemetry=OpenTelemetryConfig(endpoint=stub.url),
        )
        train(toy(tmp_path, baseline, tracking), run_dir=run, reporter=reporter)
    assert not [text for text in reporter.told if "given up" in text or "did not arrive" in text]
    assert learned(run) == learned(plain)

    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    found = {(tag, event.step): event.value for tag in board.Tags()["scalars"] for event in board.Scalars(tag)}
    recorded = {
        (key, row["step"]): value
        for row in metrics(run)
        for key, value in row.items()
        if key != "step" and value is not None
    }
    assert found == {key: pytest.approx(value, rel=1e-6) for key, value in recorded.items()}

    texts = [gzip.decompress(path.read_bytes()) for path in (run / "rollouts").glob("*.gz")]
    kept = [json.loads(line) for text in texts for line in text.splitlines()]
    assert sorted(root["agentrl.rollout.id"] for root in stub.roots) == sorted(trace["id"] for trace in kept)
    by_id = {root["agentrl.rollout.id"]: root for root in stub.roots}
    for trace in kept:
        root = by_id[trace["id"]]
        assert root["gen_ai.usage.output_tokens"] == trace["output_tokens"]
        assert root["agentrl.outcome"] == trace["outcome"]
    assert json.loads((run / "tracking.json").read_text()) == {"tensorboard": {}}


def test_f56_f57_a_run_feels_nothing_of_who_hangs_and_who_is_away(
    tmp_path: Path, baseline: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text(HUNG)
    monkeypatch.syspath_prepend(str(tmp_path))
    reporter, run = Listening(), tmp_path / "run"
    tracking = TrackingConfig(
        trackers=("wandb",), finish_seconds=1.0, opentelemetry=OpenTelemetryConfig(endpoint="http://127.0.0.1:9")
    )
    train(toy(tmp_path, baseline, tracking), run_dir=run, reporter=reporter)
    assert learned(run) == learned(plain)
    told = [text for text in reporter.told if text.startswith(("warning: wandb", "wandb:"))]
    assert [text.split(":")[0] for text in told] == ["warning", "wandb"]
    assert "had not even started" in told[0]
    assert "`wandb login`" in told[0]
    assert any("rollouts did not arrive; send them with `agentrl export otel" in text for text in reporter.told)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("courier")]


def test_a_resumed_run_may_be_tracked_otherwise(tmp_path: Path, baseline: Path, plain: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(plain, run, symlinks=True)
    config = toy(plain.parent, baseline, TrackingConfig(trackers=("tensorboard",), finish_seconds=120.0))
    train(
        config.model_copy(update={"ppo": config.ppo.model_copy(update={"steps": 3})}),
        run_dir=run,
        resume=True,
    )
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("reward_train")] == [3]
    manifest = json.loads((run / "manifest.json").read_text())
    assert "tracking.trackers[0]" in [change["key"] for change in manifest["resumed"][0]["changes"]]
