"""`agentrl import`: jobs that were written for other trainers, as configs of ours."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.import_attacks import agentdojo, promptfoo
from agentrl.cli.options import Json, write_to
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.importing import Imported

Job = Annotated[Path, typer.Argument(metavar="JOB.json", help="The request that made the job, or the job as returned.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="CONFIG", help="Where to write the config.")]
Baseline = Annotated[
    str | None, typer.Option(metavar="DIR", help="The checkpoint to train in place of the hosted model.")
]
Data = Annotated[
    list[str],
    typer.Option("--data", metavar="DIR|ID=FILE", help="Where the job's data files are. May be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a config that is there already.")]
WIDTH = 110

import_verbs = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Carry over what was written for other tools: jobs, attacks."
)
import_verbs.command()(agentdojo)
import_verbs.command()(promptfoo)


@import_verbs.callback()
def _import() -> None:
    """Carry over what was written for other tools: jobs of other trainers, attacks of other test suites."""


@import_verbs.command()
def openai(
    job: Job,
    out: Out,
    baseline: Baseline = None,
    data: Data = [],  # noqa: B006  (typer reads the default)
    force: Force = False,
    as_json: Json = False,
) -> None:
    """From a reinforcement fine-tuning job of OpenAI or Azure to a config.

    Says what each hyperparameter becomes and what has no equivalent. Secrets in headers become ${NAME}: they are
    written nowhere. Exits with 1 where the data would stop a training; the config is written all the same.
    """
    from agentrl.errors import ConfigError
    from agentrl.importing import import_job

    if out.exists() and not force:
        raise ConfigError(f"--out {out}: exists already; choose another name, or replace it with --force")
    imported = import_job(job, baseline=baseline, data=data)
    write_to("--out", out, imported.text)
    if as_json:
        print(json.dumps({"config": str(out), **_figures(imported)}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(imported, job, out)))
    if imported.problems:
        sys.stdout.flush()
        raise typer.Exit(RUN_FAILED)


def _figures(imported: Imported) -> dict[str, Any]:
    return {
        "mapping": [each._asdict() for each in imported.mapping],
        "left_out": [each._asdict() for each in imported.left_out],
        "variables": imported.variables,
        "to_do": imported.to_do,
        "problems": imported.problems,
    }


def _lines(imported: Imported, job: Path, out: Path) -> Iterator[str]:
    yield f"{job} -> {out}"
    yield ""
    yield "What the settings come to:"
    for hosted, ours, why in imported.mapping:
        yield from _wrapped(f"{hosted} -> {ours} ({why})", 2)
    yield ""
    yield "No equivalent:"
    for what, instead in imported.left_out:
        yield from _wrapped(f"- {what}: {instead}", 2)
    if imported.variables:
        yield ""
        yield "Secrets are not copied; set these variables before training:"
        for name, uses in imported.variables.items():
            yield from _wrapped(f"{name}: {', '.join(uses)}", 2)
    if imported.to_do:
        yield ""
        yield "Look at:"
        for text in imported.to_do:
            yield from _wrapped(f"- {text}", 2)
    if imported.problems:
        yield ""
        yield "To repair before training:"
        for text in imported.problems:
            for line in text.split("\n"):
                yield from _wrapped(line if line.startswith("- ") else f"- {line}", 2)
    yield ""
    name = shlex.quote(str(out))
    yield f"Next: agentrl check {name}; agentrl endpoints check {name}; agentrl plan {name}; agentrl train {name}"


def _wrapped(text: str, indent: int) -> list[str]:
    """Folded, with what the job's author wrote made harmless for a terminal."""
    start = " " * indent
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=start,
        subsequent_indent=f"{start}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
