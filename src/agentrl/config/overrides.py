"""`--set a.b=c`: one value of the config, from the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agentrl.config.section import PathParts, dotted
from agentrl.config.source import Source, read_value
from agentrl.errors import ConfigError

SHAPE = "allowed: section.key=value, for example --set ppo.steps=5"
STEP = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)")


def apply(source: Source, overrides: Sequence[str]) -> None:
    """Set each override in `source`, in order; later ones win.

    Raises:
        ConfigError: an override has no `=`, no path, or a path through a value that is no section.
    """
    for override in overrides:
        place = f"--set {override}"
        left, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"{place}: found no '='; {SHAPE}")
        path = _parse(left.strip(), place)
        if "headers" in path or "env" in path:
            place = f"--set {left}=..."  # its value may be a secret
        value = read_value(source, text, path, place)
        _put(source.values, path, value, place)


def _parse(text: str, place: str) -> PathParts:
    path: list[str | int] = []
    for part in text.split("."):
        step = STEP.fullmatch(part)
        if step is None:
            raise ConfigError(f"{place}: '{text}' is no path of keys; {SHAPE}")
        path.append(step[1])
        path.extend(int(index) for index in re.findall(r"\d+", step[2]))
    return tuple(path)


def _put(values: Any, path: PathParts, value: Any, place: str) -> None:
    for depth, part in enumerate(path):
        here = dotted(path[:depth])
        if isinstance(part, int):
            if not isinstance(values, list):
                raise ConfigError(f"{place}: {here} is no list")
            if part >= len(values):
                raise ConfigError(f"{place}: {here} has {len(values)} entries, so the last is [{len(values) - 1}]")
        elif not isinstance(values, dict):
            raise ConfigError(f"{place}: {here} is {'a list' if isinstance(values, list) else 'no section'}")
        if depth == len(path) - 1:
            values[part] = value
        else:
            if isinstance(part, str) and values.get(part) is None:
                values[part] = {}  # a section that the file leaves out or empty
            values = values[part]
