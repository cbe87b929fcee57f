"""`agentrl ui`: runs, curves and episodes as local web pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunsDir = Annotated[Path, typer.Argument(metavar="RUNS_DIR", help="Directory that the runs lie in, or one run.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one and prints it.")]
Host = Annotated[str, typer.Option(help="Address; one that other machines can reach needs --to-others.")]
ToOthers = Annotated[
    bool, typer.Option("--to-others", help="Let other machines look and label; nobody is asked for a password.")
]


def ui(
    runs_dir: RunsDir = Path("runs"), port: Port = 8765, host: Host = "127.0.0.1", to_others: ToOthers = False
) -> None:
    """Show the runs of a directory in a browser, live while they train.

    Reads the run directories and writes nothing but labels and its own index. Works without a network.
    """
    from agentrl.errors import ConfigError

    try:
        from agentrl.ui import server
    except ImportError as error:
        missing = error.name or str(error)
        raise ConfigError(f"`agentrl ui` needs {missing}; pip install 'agentrl[ui]'") from None
    if to_others:
        typer.echo("warning: whoever can reach this port can read every run and label episodes", err=True)
    server.serve(runs_dir, host, port, to_others=to_others)
