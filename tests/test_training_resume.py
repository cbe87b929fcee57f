"""10 updates are 5 updates, a new process and 5 more: bit for bit, sampled rollouts and metrics included."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from agentrl.config import PPOConfig
from agentrl.runs import read_metrics
from tests.faults.children import Nursery, nursery
from tests.same_runs import assert_same_run


def presets() -> tuple[str, ...]:
    """Every algorithm that `ppo.preset` names."""
    field = PPOConfig.model_fields.get("preset")
    return tuple(name for name in get_args(field.annotation) if isinstance(name, str)) if field else ()


CASES: dict[str, dict[str, dict[str, Any]]] = {
    "full weights": {"policy": {"lora": None}},
    "lora": {"policy": {"lora": {"rank": 4, "alpha": 8}}},
    "adaptive beta": {
        "ppo": {
            "kl": {"coef": 0.05, "controller": "adaptive", "target_kl_per_trajectory": 0.01, "horizon": 20},
            "guards": {"max_kl_per_token": 100.0, "max_kl_target_multiple": None},
        }
    },
    "shared critic": {"policy": {"lora": None, "critic": "shared"}},
    "separate critic": {"policy": {"lora": {"rank": 4, "alpha": 8}, "critic": "separate"}},
    "curriculum": {"data": {"curriculum": {}}},
    "dynamic sampling": {"ppo": {"dynamic_sampling": {"max_rounds": 2}}},
    "overlapped": {"ppo": {"overlap": True, "max_staleness": 1}},
    **{f"preset {name}": {"ppo": {"preset": name}} for name in presets()},
}
LONG = {"curriculum", "shared critic", *(f"preset {name}" for name in presets() if not name.endswith(("gae", "gigpo")))}
"""They save nothing that another case does not save as well."""
SHORT = {
    "steps": 10, "tasks_per_step": 2, "samples_per_task": 3,
    "guards": {"max_kl_per_token": 100.0, "max_clip_fraction": 1.0},  # gspo clips close to 1, these steps are wide
}  # fmt: skip


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("resumed")) as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.long] if case in LONG else []) for case in CASES]
)
def test_ten_updates_are_five_a_new_process_and_five_more(children: Nursery, case: str) -> None:
    changes = {**CASES[case], "checkpoint": {"every_steps": 5}, "evaluation": {"every_steps": 5}}
    config = children.config(case, **{**changes, "ppo": {**SHORT, **changes.get("ppo", {})}})
    whole, parts = children.folder / case / "whole", children.folder / case / "parts"
    calm = children.run(config, whole)
    assert (calm.status, calm.stopped_by) == (0, None), calm.errors
    assert children.run(config, parts, kill_before_step=6).status == -signal.SIGKILL
    assert len(read_metrics(parts)) == 5
    resumed = children.run(config, parts, resume=True)
    assert (resumed.status, resumed.stopped_by) == (0, None), resumed.errors
    assert len(read_metrics(parts)) == 10
    assert_same_run(parts, whole)


@pytest.mark.slow
def test_another_seed_is_another_run(children: Nursery, tmp_path: Path) -> None:
    """So that the equality above means something."""
    config = children.config("seeded", ppo={**SHORT, "steps": 2})
    other = tmp_path / "toy.yaml"
    other.write_text(config.read_text() + "seed: 18\n")
    for path, name in ((config, "one"), (other, "other")):
        assert children.run(path, tmp_path / name).status == 0
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "one", tmp_path / "other")
