"""Servers that live as long as the run: started before it, stopped at its end, whatever that end is.

Ctrl-C reaches the run alone, which may still save a checkpoint.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agentrl.config import ServeConfig
from agentrl.errors import ConfigError
from agentrl.process_group import ProcessGroup

READY = re.compile(r"listening on (https?://\S+)\s")  # the blank behind it: a line half written is no address
PLACEHOLDER = re.compile(r"\{([A-Za-z_.]+)\}")
RANDOM = "${random}"
POLL_SECONDS = 0.05
LOG_LINES = 15


@contextmanager
def serving(
    configs: Sequence[ServeConfig], values: Mapping[str, str], *, log_dir: Path | None = None
) -> Iterator[list[str]]:
    """Run the servers of `tools.serve` and yield their base URLs, in order.

    A variable whose value in `env` is `${random}` gets a fresh token, in the server's environment and, until the end,
    in ours: headers such as `Bearer ${FINQA_TOKEN}` then resolve.

    Args:
        values: what the placeholders of a command stand for, `data.path` for instance; {python} is always known.
        log_dir: keeps each server's output as `serve-0.log`, `serve-1.log`; without it the logs end with the run.

    Raises:
        ConfigError: a server cannot be started, ends, or is not listening in time.
    """
    tokens = {
        variable: secrets.token_urlsafe(24)
        for config in configs
        for variable, value in config.env.items()
        if value == RANDOM
    }
    known = {"python": sys.executable, **values}
    commands = [[_fill(word, known) for word in config.command] for config in configs]
    with ExitStack() as stack:
        stack.enter_context(_exported(tokens))
        if log_dir is None:
            log_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentrl-serve-")))
        log_dir.mkdir(parents=True, exist_ok=True)
        logs = [log_dir / f"serve-{index}.log" for index in range(len(configs))]
        servers = [
            stack.enter_context(_running(command, {**config.env, **_only(tokens, config.env)}, log))
            for config, command, log in zip(configs, commands, logs, strict=True)
        ]
        waits = [config.ready_timeout_seconds for config in configs]
        yield [
            _base_url(server, command, log, wait, tuple(tokens.values()))
            for server, command, log, wait in zip(servers, commands, logs, waits, strict=True)
        ]


def _only(tokens: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    return {variable: token for variable, token in tokens.items() if env.get(variable) == RANDOM}


def _fill(word: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if (name := match.group(1)) not in values:
            known = ", ".join("{" + each + "}" for each in values)
            raise ConfigError(f"tools.serve: {word!r} needs {{{name}}}, which has no value; known here: {known}")
        return values[name]

    return PLACEHOLDER.sub(value, word)


@contextmanager
def _exported(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _running(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    try:
        server = ProcessGroup(command, log, env)
    except OSError as error:
        raise ConfigError(f"tools.serve: cannot start {_shown(command)} ({error.strerror or error})") from error
    try:
        yield server.leader
    finally:
        server.stop()


def _base_url(
    server: subprocess.Popen[bytes], command: list[str], log: Path, seconds: float, tokens: Sequence[str]
) -> str:
    deadline = time.monotonic() + seconds
    while True:
        ended = server.poll()  # before reading, so that an ended server's last words are in the log
        text = log.read_text("utf-8", "replace")
        if ended is None and (match := READY.search(text)):
            return match.group(1).rstrip("/")
        if ended is not None or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    for token in tokens:
        text = text.replace(token, "[secret]")
    lines = "\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES:]) or "  (nothing)"
    found = f"ended with exit code {ended}" if ended is not None else f"was not ready within {seconds:g} s"
    allowed = "a server prints `listening on http://127.0.0.1:PORT` when it is ready"
    raise ConfigError(f"tools.serve: {_shown(command)} {found}; {allowed}. Its last output:\n{lines}")


def _shown(command: Sequence[str]) -> str:
    return f"`{' '.join(command)}`"
