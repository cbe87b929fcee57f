"""`agentrl grader validate`: is a declaration good, what does it come to, and what in it is likely to be a mistake?"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.grader_setup import GraderPath
from agentrl.cli.options import Json, Set

if TYPE_CHECKING:
    from agentrl.config.grader_file import GraderFile

Rows = Annotated[
    list[Path],
    typer.Option("--rows", metavar="FILE", help="Data that the templates are tried on.  [default: CONFIG's]"),
]


def validate(
    grader: GraderPath,
    rows: Rows = [],  # noqa: B006  (typer reads the default)
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Check a grader and print it with every default written out.

    Asks nobody and grades nothing. Warnings go to stderr: paths that rows do not have, thresholds beyond the scores,
    parts that a formula leaves out, a weak sandbox.
    """
    from agentrl.config import to_yaml
    from agentrl.config.grader_file import load_grader
    from agentrl.grading.review import warnings_of
    from agentrl.runs.files import to_json

    file = load_grader(grader, overrides)
    is_served = bool(file.grading.endpoints and file.run and file.run.tools and file.run.tools.serve)
    # its tokens and its address come with the server
    warnings = asyncio.run(warnings_of(file.grading, _items(file, rows), is_built=not is_served))
    if as_json:
        print(to_json({"grader": file.grading.grader.model_dump(mode="json"), "warnings": warnings}, indent=2))
        return
    print(to_yaml(file.grading), end="")
    sys.stdout.flush()
    for warning in warnings:
        print(f"warning: {grader}: {warning}", file=sys.stderr)


def _items(file: GraderFile, rows: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """The items of files that were named, or of the config's data where it can be read."""
    from agentrl.data.rows import read_tasks
    from agentrl.data.tasks import SPLITS, load_tasks
    from agentrl.errors import ConfigError

    if rows:
        return {str(path): [task.item for task in read_tasks(path, path.stem)] for path in rows}
    if file.run is None or file.run.data is None:
        return {}
    data = file.run.data
    try:
        splits = load_tasks(data)
    except ConfigError as error:
        print(f"warning: {file.path}: its data is not looked at ({error})", file=sys.stderr)
        return {}
    names = {split: getattr(data, split) or f"the {split} tasks" for split in SPLITS}
    return {names[split]: [task.item for task in getattr(splits, split)] for split in SPLITS}
