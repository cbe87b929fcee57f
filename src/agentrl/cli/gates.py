"""`agentrl gates`: what the rows of a config mean before any of them is read."""

from __future__ import annotations

import shutil

import typer

from agentrl.cli.options import Config, Json, Set

gates = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What a config's gates measure, pass, fail and need."
)

MIN_WIDTH, MAX_WIDTH = 80, 120


@gates.callback()
def _gates() -> None:
    """What a config's gates measure, pass, fail and need."""


@gates.command()
def explain(config: Config, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006  (typer reads the default)
    """Print every row in full, with the sessions and days that it needs.

    A bare name stands for a whole row; here it is. Planned sizes are for a candidate that is truly equal. A line that
    begins with ! names a gate that cannot decide within its max_wait at the declared traffic.
    """
    from agentrl.config import load_config
    from agentrl.errors import ConfigError
    from agentrl.release.gates.explain import explain as explain_rows
    from agentrl.release.gates.explain import explanation_text
    from agentrl.release.gates.metrics import reading_of
    from agentrl.runs.files import to_json

    loaded = load_config(config, overrides)
    release = loaded.release
    if release is None or not release.gates:
        raise ConfigError(
            f"{config}: has no release.gates; the shortest: `release: {{gates: [task_success_not_worse]}}`"
        )
    for gate in release.gates:
        if gate.unit == "session":
            reading_of(gate)  # a metric of the team's own that cannot be imported is found before a release needs it
    rows = explain_rows(release, is_shadow_graded=None if loaded.gateway is None else loaded.gateway.shadow.grade)
    if as_json:
        record = {
            "canary_traffic_percent": release.canary_traffic_percent,
            "sessions_per_week": release.sessions_per_week,
            "gates": [row.to_record() for row in rows],
        }
        print(to_json(record, indent=2))
        return
    width = min(max(shutil.get_terminal_size((100, 24)).columns, MIN_WIDTH), MAX_WIDTH)
    print(explanation_text(release, rows, width=width))
