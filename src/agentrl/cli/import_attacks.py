"""`agentrl import agentdojo` and `agentrl import promptfoo`: attacks of other tools for your own agent."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import Json, write_to
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.evaluation.adversarial.imports import ImportedAttacks

Package = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="Of the package agentdojo, such as VENV/lib/python3.12/site-packages."),
]
File = Annotated[Path, typer.Argument(metavar="FILE.yaml", help="promptfooconfig.yaml, or the redteam.yaml it made.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE.yaml", help="Where the attacks go.")]
Suites = Annotated[
    list[str], typer.Option("--suite", metavar="NAME", help="Only banking, slack, travel, workspace. May be repeated.")
]
Wording = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What is planted, with {goal} in it.  [default: a note from the user]"),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")]
SHOWN = 8


def agentdojo(
    package: Package,
    out: Out,
    suite: Suites = [],  # noqa: B006  (typer reads the default)
    wording: Wording = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """From AgentDojo's injection tasks to attacks on your own agent. The package is read, never run.

    What only AgentDojo's own environment can judge is named and left out.
    """
    from agentrl.errors import ConfigError
    from agentrl.evaluation.adversarial.imports.agentdojo import WRAPPED, import_agentdojo

    _refuse_out(out, is_forced=force)
    try:
        text = WRAPPED if wording is None else wording.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--wording {wording}: cannot be read ({error})") from None
    _write(import_agentdojo(package, suites=tuple(suite), wording=text), package, out, as_json)


def promptfoo(file: File, out: Out, force: Force = False, as_json: Json = False) -> None:
    """From promptfoo's tests to attacks on your own agent.

    Assertions that an LLM or code of promptfoo's decides are named and left out.
    """
    from agentrl.evaluation.adversarial.imports.promptfoo import import_promptfoo

    _refuse_out(out, is_forced=force)
    _write(import_promptfoo(file), file, out, as_json)


def _refuse_out(out: Path, *, is_forced: bool) -> None:
    from agentrl.errors import ConfigError

    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out}: allowed: a file that ends in .yaml")
    if out.exists() and not is_forced:
        raise ConfigError(f"--out {out}: exists already; choose another name, or replace it with --force")


def _write(found: ImportedAttacks, source: Path, out: Path, as_json: bool) -> None:
    from agentrl.errors import ConfigError

    reasons = "; ".join(f"{count} x {why}" for why, count in found.reasons.items())
    if not found.cases:
        raise ConfigError(f"{source}: nothing in it can be imported: {reasons or 'it is empty'}")
    write_to("--out", out, found.to_yaml())
    if as_json:
        left_out = [{"what": what, "why": why} for what, why in found.left_out]
        print(json.dumps({"out": str(out), "cases": len(found.cases), "left_out": left_out}, indent=2))
        return
    print(printable(f"{out}: {len(found.cases)} attack{'s' * (len(found.cases) != 1)}"))
    if found.left_out:
        many = len(found.left_out) != 1
        print(f"{len(found.left_out)} thing{'s' * many} {'were' if many else 'was'} left out (--json lists each):")
    for why, count in found.reasons.items():
        names = [what for what, reason in found.left_out if reason == why]
        more = ", ..." if len(names) > SHOWN else ""
        print(printable(f"  {count:>4}  {why}: {', '.join(names[:SHOWN])}{more}"))
    print(f"next: agentrl suite adversarial CONFIG --cases {shlex.quote(str(out))} --out suites/attacks.json")
