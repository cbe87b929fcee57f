"""`agentrl`: the verbs, `--help`, `--version`."""

from __future__ import annotations

from typing import Annotated

import typer

from agentrl.cli.ablate import ablate
from agentrl.cli.audit_verbs import audit_verbs
from agentrl.cli.brief import brief
from agentrl.cli.budget import budget
from agentrl.cli.bundle import bundle
from agentrl.cli.check import check
from agentrl.cli.compare import compare
from agentrl.cli.doctor import doctor
from agentrl.cli.dpo import dpo
from agentrl.cli.endpoints import endpoints
from agentrl.cli.eval import evaluate
from agentrl.cli.exits import Verbs
from agentrl.cli.export import export
from agentrl.cli.gate import gate
from agentrl.cli.gates import gates
from agentrl.cli.gateway import gateway
from agentrl.cli.grader import grader
from agentrl.cli.import_job import import_verbs
from agentrl.cli.incident import incident
from agentrl.cli.labels import labels
from agentrl.cli.pairs import pairs
from agentrl.cli.plan import plan
from agentrl.cli.probe import probe
from agentrl.cli.release import release
from agentrl.cli.review import review
from agentrl.cli.reward_model import reward_model
from agentrl.cli.rollouts import rollouts
from agentrl.cli.sft import sft
from agentrl.cli.suite import suite
from agentrl.cli.train import train
from agentrl.cli.ui import ui

app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts faster
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 good, 1 the run failed, 2 usage or config, 3 a gate failed, 4 a gate is inconclusive, "
    "130 interrupted (training has saved a checkpoint).",
)
for verb in (
    check,
    plan,
    probe,
    rollouts,
    sft,
    train,
    evaluate,
    compare,
    ablate,
    ui,
    pairs,
    dpo,
    gate,
    gateway,
    brief,
    review,
    budget,
):
    app.command("eval" if verb is evaluate else None)(verb)
app.add_typer(suite, name="suite")
app.add_typer(doctor, name="doctor")
app.add_typer(endpoints, name="endpoints")
app.add_typer(reward_model, name="reward-model")
app.add_typer(import_verbs, name="import")
app.add_typer(labels, name="labels")
app.add_typer(grader, name="grader")
app.add_typer(export, name="export")
app.add_typer(bundle, name="bundle")
app.add_typer(gates, name="gates")
app.add_typer(release, name="release")
app.add_typer(incident, name="incident")
app.add_typer(audit_verbs, name="audit")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from agentrl import __version__

        typer.echo(f"agentrl {__version__}")
        raise typer.Exit


@app.callback()
def agentrl(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Train tool-using agents with PPO and a KL penalty, from one YAML file."""
    del version


def main() -> None:
    """Entry point of the `agentrl` command."""
    app(prog_name="agentrl")
