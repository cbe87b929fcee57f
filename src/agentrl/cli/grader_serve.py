"""`agentrl grader serve`: the hosted routes for graders, on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from agentrl.cli.grader_setup import AtOnce

KEY = "AGENTRL_API_KEY"

Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one and prints it.")]
Host = Annotated[str, typer.Option(help=f"Address; one that other machines can reach needs {KEY}.")]
Zero = Annotated[
    bool, typer.Option("--zero", help="Say reward 0, as hosted routes do, where there is none; else null.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-requests",
        help="Graders in requests may name this machine's environment variables, files and private networks.",
    ),
]


def serve(
    port: Port = 0, host: Host = "127.0.0.1", at_once: AtOnce = 16, zero: Zero = False, trust_requests: Trust = False
) -> None:
    """Answer graders/run, graders/validate and tool/run.

    For notebooks that were written for the hosted routes: set their client's base URL to the one printed, with /v1
    behind it. With AGENTRL_API_KEY set, requests need that key.
    """
    from agentrl.errors import ConfigError

    try:
        from agentrl.routes import server
        from agentrl.routes.app import Rules
    except ImportError as error:
        missing = error.name or str(error)
        raise ConfigError(f"`agentrl grader serve` needs {missing}; pip install 'agentrl[serve]'") from None
    rules = Rules(
        api_key=os.environ.get(KEY, ""),
        is_public=server.is_public(host),
        trusts_requests=trust_requests,
        at_once=at_once,
        ungraded_reward=0.0 if zero else None,
    )
    server.serve(host, port, rules)
