"""`agentrl grader`: ask a grader, look at its declaration, hold a new one against an old one, attack it, serve it."""

from __future__ import annotations

import typer

from agentrl.cli.grader_attack import attack
from agentrl.cli.grader_compare import compare
from agentrl.cli.grader_run import run
from agentrl.cli.grader_serve import serve
from agentrl.cli.grader_validate import validate

grader = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run, validate, compare, attack and serve graders.",
    epilog="GRADER is a YAML or JSON file with a grader alone, as hosted fine-tuning takes it, or a run's config.",
)
for verb in (run, validate, compare, attack, serve):
    grader.command()(verb)


@grader.callback()
def _grader() -> None:
    """Run, validate, compare, attack and serve graders."""
