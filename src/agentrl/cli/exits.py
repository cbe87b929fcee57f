"""From an exception to one message on stderr and an exit code: the only place that does so."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from agentrl.errors import AgentRLError, BaselineError, CheckpointError, ConfigError
from agentrl.printable import printable_lines

RUN_FAILED = 1
BAD_INPUT = 2
GATE_FAILED = 3
GATE_INCONCLUSIVE = 4
INTERRUPTED = 130  # what a shell reports after Ctrl-C: 128 + SIGINT


class Verbs(TyperGroup):
    """Runs a verb. Errors raised on purpose are for the user and get no traceback; bugs keep theirs."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except AgentRLError as error:
            fail(f"error: {error}", exit_code(error))
        except KeyboardInterrupt as interrupt:
            fail(str(interrupt) or "interrupted", INTERRUPTED)
        except BrokenPipeError:  # `agentrl check ... | head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None


def exit_code(error: AgentRLError) -> int:
    """2 for what the user can repair before a run, 1 for a run that failed."""
    return BAD_INPUT if isinstance(error, ConfigError | BaselineError | CheckpointError) else RUN_FAILED


def fail(message: str, code: int) -> NoReturn:
    """Say why and leave; what a file or a server wrote into the message moves no cursor.

    Raises:
        typer.Exit: always.
    """
    print(printable_lines(message), file=sys.stderr, flush=True)
    raise typer.Exit(code) from None
