"""Arguments that several verbs share."""

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
