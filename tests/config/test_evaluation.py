from __future__ import annotations

from pathlib import Path

import pytest

from agentrl.config import load_config
from agentrl.config.loading import to_yaml
from agentrl.errors import ConfigError


def write(folder: Path, *lines: str) -> Path:
    path = folder / "run.yaml"
    path.write_text("\n".join(["workflow: {target: t, baseline: b}", "evaluation:", *(f"  {line}" for line in lines)]))
    return path


def test_the_hosted_services_names_are_shorthand_and_the_resolved_config_shows_ours(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "eval_interval: 7", "eval_samples: 2"))
    found = config.evaluation
    assert (found.every_steps, found.samples_per_item, found.periodic_samples_per_item) == (7, 2, 2)
    assert "eval_" not in to_yaml(config)
    auto = load_config(write(tmp_path, "eval_interval: auto", "eval_samples: auto")).evaluation
    assert auto == type(auto)()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("eval_interval: 7", "every_steps: 7"), "evaluation.eval_interval: found beside every_steps; allowed: one of"),
        (("eval_samples: 2", "periodic_samples_per_item: 1"), "found beside periodic_samples_per_item"),
        (("eval_samples: 0", "run_test: true"), "evaluation.eval_samples: found 0; allowed: auto, or a whole number"),
        (("eval_interval: true", "run_test: true"), "found True; allowed: auto, or a whole number"),
        (("eval_interval: often", "run_test: true"), "found 'often'"),
    ],
)
def test_both_names_at_once_and_other_values_are_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"run.yaml:\d+: .*{message}|{message}"):
        load_config(write(tmp_path, *lines))
