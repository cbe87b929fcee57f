"""A file and its overrides to a config, or to one ConfigError that lists every mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from agentrl.config import overrides as overriding
from agentrl.config import source as reading
from agentrl.config.dpo import DPORunConfig
from agentrl.config.messages import explain
from agentrl.config.reward_model import RewardModelRunConfig
from agentrl.config.run import RunConfig
from agentrl.config.section import Section
from agentrl.config.sft import SFTRunConfig
from agentrl.errors import ConfigError

AnyConfig = TypeVar("AnyConfig", bound=Section)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Load the config of a training run.

    Args:
        path: YAML file. Paths inside it are relative to the current directory, as on a command line.
        overrides: `section.key=value`, as after `--set`; values are typed as YAML types them.

    Raises:
        ConfigError: anything wrong with the file or an override; all mistakes in one message.
    """
    return _load(path, overrides, RunConfig)


def load_sft_config(path: str | Path, overrides: Sequence[str] = ()) -> SFTRunConfig:
    """Load the config of `agentrl sft`; like `load_config`."""
    return _load(path, overrides, SFTRunConfig)


def load_dpo_config(path: str | Path, overrides: Sequence[str] = ()) -> DPORunConfig:
    """Load the config of `agentrl dpo`; like `load_config`."""
    return _load(path, overrides, DPORunConfig)


def load_reward_model_config(path: str | Path, overrides: Sequence[str] = ()) -> RewardModelRunConfig:
    """Load the config of `agentrl reward-model train`; like `load_config`."""
    return _load(path, overrides, RewardModelRunConfig)


AnyRunConfig = RunConfig | SFTRunConfig | DPORunConfig | RewardModelRunConfig


def load_any_config(path: str | Path, overrides: Sequence[str] = ()) -> AnyRunConfig:
    """Load whichever the file is: one with an `sft:` section is for `agentrl sft`, and so on."""
    source = _read(path, overrides)
    kind = next((model for model, section in SECTIONS.items() if section in source.values), RunConfig)
    return _validate(source, kind)


SECTIONS: dict[type[AnyRunConfig], str] = {
    RunConfig: "workflow",
    SFTRunConfig: "sft",
    DPORunConfig: "dpo",
    RewardModelRunConfig: "reward_model",
}
"""The section that a file of each kind has and no other."""
VERBS = {"workflow": "train", "sft": "sft", "dpo": "dpo", "reward_model": "reward-model train"}


def _load(path: str | Path, overrides: Sequence[str], model: type[AnyConfig]) -> AnyConfig:
    source = _read(path, overrides)
    own = next(section for kind, section in SECTIONS.items() if kind is model)
    if own not in source.values and (found := next((s for s in VERBS if s in source.values), None)):
        kinds = f"a config for `agentrl {VERBS[found]}`, not for `agentrl {VERBS[own]}`"
        raise ConfigError(f"{source.place((found,))}: this is {kinds}")
    return _validate(source, model)


def to_yaml(config: Section) -> str:
    """The resolved config, every default written out, in the order of the classes; it loads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def _read(path: str | Path, overrides: Sequence[str]) -> reading.Source:
    source = reading.read(path)
    overriding.apply(source, overrides)
    if "name" not in source.values and (stem := re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-._")):
        source.values["name"] = stem[:80]
    return source


def _validate(source: reading.Source, model: type[AnyConfig]) -> AnyConfig:
    problems = list(source.problems)
    try:
        config = model.model_validate(source.values)
    except ValidationError as error:
        problems += explain(error, model, source)
    else:
        if not problems:
            return config
    raise refusal(source, problems)


def refusal(source: reading.Source, problems: Sequence[tuple[str, str]]) -> ConfigError:
    """One error of all mistakes, each a place and a message, from the top of the file down."""
    lines = [f"{place}: {message}" for place, message in sorted(problems, key=lambda problem: _line(problem[0]))]
    return ConfigError(lines[0] if len(lines) == 1 else "\n  ".join([f"{source.name}: {len(lines)} mistakes", *lines]))


def _line(place: str) -> float:
    """Mistakes are listed from the top of the file down, those of overrides last."""
    line = re.search(r":(\d+)$", place)
    return int(line[1]) if line and not place.startswith("--set") else float("inf")
