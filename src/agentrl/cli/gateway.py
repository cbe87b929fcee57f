"""`agentrl gateway`: the OpenAI-compatible proxy that users talk to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML with `gateway` and `release` sections.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of gateway.port; 0 takes a free one.")]
AdminPort = Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of gateway.admin_port.")]


def gateway(config: ConfigFile, port: Port = None, admin_port: AdminPort = None) -> None:
    """Answer OpenAI's protocol in front of a baseline and a candidate, until SIGTERM or Ctrl-C.

    Start it as often as there are machines: replicas share one database.
    """
    from agentrl.config import load_config
    from agentrl.errors import ConfigError

    loaded = load_config(config)
    try:
        from agentrl.gateway import server
    except ImportError as error:
        missing = error.name or str(error)
        raise ConfigError(f"`agentrl gateway` needs {missing}; pip install 'agentrl[release]'") from None
    ports = {"port": port, "admin_port": admin_port}
    changed = {key: value for key, value in ports.items() if value is not None}
    if loaded.gateway is not None and changed:
        loaded = loaded.model_copy(update={"gateway": loaded.gateway.model_copy(update=changed)})
    server.serve(loaded)
