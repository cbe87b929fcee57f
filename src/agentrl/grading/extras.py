"""Libraries that some graders need and agentrl does not install by itself: `pip install 'agentrl[graders]'`."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

from agentrl.errors import ConfigError


def extra(module: str, wanted_by: str) -> Any:
    """A module of the extra `graders`, imported where it is used and not before.

    Raises:
        ConfigError: it is not installed; how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0].replace("_", "-")
        raise ConfigError(f"{wanted_by} needs {name}: pip install 'agentrl[graders]'") from error


def versions_of(*packages: str) -> dict[str, str]:
    """Of installed packages: another release of a library may score otherwise, so it is part of a grader's version."""
    return {package: version(package) for package in packages}
