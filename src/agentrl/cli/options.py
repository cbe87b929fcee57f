"""Arguments that several verbs share, and how the files that they name are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; paths in it are relative to here.")]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value, e.g. ppo.steps=5. May be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def write_to(option: str, path: Path, text: str) -> None:
    """Write the file that an option names, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    from agentrl.disk import write_text
    from agentrl.errors import ConfigError

    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written ({error.strerror or error})") from error
