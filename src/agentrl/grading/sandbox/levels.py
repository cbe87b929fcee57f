"""How strong the walls are on this machine: found by really building them and trying to get out."""

from __future__ import annotations

import functools
import json
import logging
import sys
import tempfile

from agentrl.errors import ConfigError
from agentrl.grading.sandbox.worker import Level, Limits, Worker, WorkerError

logger = logging.getLogger(__name__)
ISOLATED = (Level.BUBBLEWRAP, Level.NAMESPACES, Level.LANDLOCK)
"""That run untrusted code, the strongest first."""
PROBE = """
import os, socket

def grade(sample, item):
    with open("file", "w") as file:
        file.write("a grader may write in its temporary directory")
    for forbidden in (socket.socket, os.fork, lambda: open(sample["planted"]), lambda: os.execv("/bin/true", ["true"])):
        try:
            forbidden()
        except OSError:
            continue
        return 0.0
    return 1.0
"""


@functools.cache
def why_not(level: Level) -> str:
    """Empty where a level works on this machine, otherwise what its probe ran into; asked once a process."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has none of it"
    try:
        with tempfile.NamedTemporaryFile("w") as planted:
            planted.write("a secret")
            planted.flush()
            worker = Worker(level, PROBE, Limits(seconds=20.0))
            try:
                outcome = worker.grade(json.dumps([{"planted": planted.name}, {}]).encode())
            finally:
                worker.close()
    except (WorkerError, OSError) as error:
        return str(error)
    if outcome.score == 1.0 or level is Level.UNISOLATED:
        return ""
    return outcome.details or "its walls do not hold"


@functools.cache
def sandbox_level() -> Level:
    """The strongest level that works here; `unisolated` where code would run without walls."""
    return next((level for level in ISOLATED if not why_not(level)), Level.UNISOLATED)


def choose_level(wanted: str) -> Level:
    """The level of `sandbox: auto`, or the one that is wanted by name.

    Raises:
        ConfigError: it does not work here, or nothing does that isolates.
    """
    level = sandbox_level() if wanted == "auto" else Level(wanted)
    if wanted == "auto" and level is Level.UNISOLATED:
        reasons = "; ".join(f"{each.value}: {why_not(each)}" for each in ISOLATED)
        raise ConfigError(
            f"sandbox: no level that isolates works on this machine ({reasons}); see docs/sandbox.md, or write "
            "`sandbox: unisolated` where you trust the grader's code as your own"
        )
    if level is not Level.UNISOLATED and (reason := why_not(level)):
        raise ConfigError(f"sandbox: found '{level.value}', which does not work on this machine: {reason}")
    _report(level)
    return level


@functools.cache
def _report(level: Level) -> None:
    """Once a process."""
    if level is Level.UNISOLATED:
        logger.warning("python graders run unisolated: they can read and change what this user can")
    else:
        logger.info("python graders run in a sandbox: %s", level.value)
