"""The servers of `tools.serve`, started once for all ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agentrl.config import ServeConfig
from agentrl.policy.ranks import Ranks
from agentrl.tools.serve import RANDOM, serving


@contextmanager
def shared_serving(
    ranks: Ranks, configs: Sequence[ServeConfig], values: Mapping[str, str], *, log_dir: Path
) -> Iterator[list[str]]:
    """As `serving`, by the first rank; the others are told the addresses and the tokens.

    Raises:
        ConfigError: on all ranks, where a server cannot be started.
    """
    with ExitStack() as servers:
        urls = ranks.on_first(lambda: servers.enter_context(serving(configs, values, log_dir=log_dir)))
        names = {name for config in configs for name, value in config.env.items() if value == RANDOM}
        os.environ.update(ranks.broadcast({name: os.environ.get(name, "") for name in names}))
        yield urls
