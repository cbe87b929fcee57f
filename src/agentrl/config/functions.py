"""Functions of the user's that a config names as `package.module:function`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agentrl.config.section import did_you_mean
from agentrl.errors import ConfigError


def load_function(where: str, name: str) -> Callable[..., Any]:
    """The function `package.module:function`; call it inside `working_directory_importable`.

    Args:
        where: the key that names it, for messages.

    Raises:
        ConfigError: the module cannot be imported, or has no such function.
    """
    module_name, separator, function_name = name.partition(":")
    if not (separator and module_name and function_name):
        raise ConfigError(f"{where}: found {name!r}; allowed: package.module:function")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's program
        found = f"cannot import {module_name} ({type(error).__name__}: {error})"
        raise ConfigError(f"{where}: {found}; searched in {os.getcwd()} and the installed packages") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [each for each in vars(module) if callable(getattr(module, each))]
        found = "is no function" if hasattr(module, function_name) else "does not exist"
        hint = did_you_mean(function_name, names)
        raise ConfigError(f"{where}: {function_name} {found} in {module_name} ({module.__file__}){hint}")
    loaded: Callable[..., Any] = function
    return loaded


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Modules beside the config's paths can be imported, as under `python -m`; a console script does not do that."""
    directory = os.getcwd()
    added = directory not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, directory)
    try:
        yield
    finally:
        if added and directory in sys.path:
            sys.path.remove(directory)
