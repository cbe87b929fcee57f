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
from agentrl.config.messages import explain
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
    source = _read(path, overrides)
    if "sft" in source.values and "workflow" not in source.values:
        raise ConfigError(f"{source.place(('sft',))}: this is a config for `agentrl sft`, not for a training run")
    return _validate(source, RunConfig)


def load_sft_config(path: str | Path, overrides: Sequence[str] = ()) -> SFTRunConfig:
    """Load the config of `agentrl sft`; like `load_config`."""
    source = _read(path, overrides)
    if "workflow" in source.values and "sft" not in source.values:
        raise ConfigError(f"{source.place(('workflow',))}: this is a config for `agentrl train`, not for `agentrl sft`")
    return _validate(source, SFTRunConfig)


def load_any_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig | SFTRunConfig:
    """Load whichever of the two the file is: one with an `sft:` section is for `agentrl sft`."""
    source = _read(path, overrides)
    is_sft = "sft" in source.values and "workflow" not in source.values
    return _validate(source, SFTRunConfig) if is_sft else _validate(source, RunConfig)


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
    problems.sort(key=lambda problem: _line(problem[0]))
    lines = [f"{place}: {message}" for place, message in problems]
    raise ConfigError(lines[0] if len(lines) == 1 else "\n  ".join([f"{source.name}: {len(lines)} mistakes", *lines]))


def _line(place: str) -> float:
    """Mistakes are listed from the top of the file down, those of overrides last."""
    line = re.search(r":(\d+)$", place)
    return int(line[1]) if line and not place.startswith("--set") else float("inf")
