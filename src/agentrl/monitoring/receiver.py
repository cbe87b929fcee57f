"""The other end of a courier: the loop of a process that passes messages on and answers each.

It ends itself where a call takes longer than it may, be it in C with Python's lock held, and be the run dead meanwhile:
a watchdog that needs neither is set before every call. Nothing but the standard library is loaded here.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Protocol

GRACE_SECONDS = 5.0
"""More than the run waits: it gives the call up first, and can say so."""
ORPHAN_SECONDS = 30.0
"""For a process whose run was killed to send what it has."""
SECRET_VARIABLE = re.compile(r"auth|cookie|credential|key|passw|secret|token", re.IGNORECASE)
MIN_SECRET_CHARS = 6


class Receiver(Protocol):
    """What messages are passed on to. Every method may raise: the run is told."""

    def start(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Get ready; what is returned goes back to the run."""
        ...

    def receive(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Pass one on. What is returned as `warning`, of a failure, or as `note` is told, each once."""
        ...

    def finish(self) -> Mapping[str, Any]:
        """Send what is left; `lost` says how much could not be sent."""
        ...


def serve(receiver: Receiver) -> None:
    """Answer messages until the run has no more, then leave at once: what libraries do at an exit may take minutes."""
    messages = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a library that asks for a key gets none
    os.dup2(2, 1)  # what a library prints is no answer
    is_started = is_finished = False
    for line in messages:
        message = json.loads(line)
        faulthandler.dump_traceback_later(float(message.pop("seconds")) + GRACE_SECONDS, exit=True)
        try:
            if not is_started:
                answer, is_started = receiver.start(message), True
            elif message.get("finish"):
                answer, is_finished = receiver.finish(), True
            else:
                answer = receiver.receive(message)
        except BaseException as error:  # SystemExit too: a library may leave as it likes
            print(without_secrets(traceback.format_exc(), os.environ), file=sys.stderr, flush=True)
            answer = {"error": without_secrets(f"{type(error).__name__}: {error}", os.environ)}
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(answer).encode() + b"\n")
    if is_started and not is_finished:  # the run was killed
        faulthandler.dump_traceback_later(ORPHAN_SECONDS, exit=True)
        receiver.finish()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """The text with `[secret]` for the values of variables that are named like secrets."""
    secrets = [value for name, value in environment.items() if SECRET_VARIABLE.search(name)]
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_CHARS:  # a shorter one stands in every text
            text = text.replace(secret, "[secret]")
    return text
