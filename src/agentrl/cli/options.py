"""Arguments that several verbs share, and how the files that they name are read and written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agentrl.config import RunConfig
    from agentrl.release.place import ReleasePlace

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; paths in it are relative to here.")]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value, e.g. ppo.steps=5. May be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who says so.  [default: your login name]")]


def training_config(path: Path, overrides: Sequence[str]) -> RunConfig:
    """The config in a file, of a run that trains: data, tools and grading are there.

    Raises:
        ConfigError: they are not, or it is no config.
    """
    from agentrl.config import load_config, training_sections
    from agentrl.errors import ConfigError

    config = load_config(path, overrides)
    try:
        training_sections(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def opened(path: Path, overrides: Sequence[str]) -> tuple[RunConfig, ReleasePlace]:
    """The config in a file, and where it keeps its releases.

    Raises:
        ConfigError: it has no `release` section, or is no config.
        ReleaseError: the database cannot be reached.
    """
    from agentrl.config import load_config
    from agentrl.release.place import open_place

    config = load_config(path, overrides)
    return config, open_place(config)


def who_says(name: str | None) -> str:
    """The person whom `--as` names, or who is logged in.

    Raises:
        ConfigError: neither has a name.
    """
    from agentrl.errors import ConfigError
    from agentrl.labels import whoever_this_is

    if found := (name or whoever_this_is() or "").strip():
        return found
    raise ConfigError("--as is needed: nobody is logged in by a name")


def spare_the_cores() -> None:
    """Before torch loads, which reads this: idle threads that spin would fight the servers of a run for the cores."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_folder(option: str, folder: Path) -> None:
    """Make the folder that an option names; what would lose the results at the end is found before they are made.

    Raises:
        ConfigError: it cannot be made, or not be written to.
    """
    from agentrl.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {folder}: the folder cannot be made ({error.strerror or error})") from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{option} {folder}: the folder cannot be written to")


@contextmanager
def starting_anew() -> Iterator[None]:
    """Around work of which Ctrl-C leaves nothing, which is said."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; nothing of it is kept, and the same command starts anew") from None


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
