"""Receivers with every fault: `python faults.py FAULT`, at the other end of a courier."""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from agentrl.monitoring.receiver import serve

FOREVER = 3600.0


class Faulty:
    def __init__(self, fault: str) -> None:
        self.fault, self.n = fault, 0
        self.received: list[Any] = []

    def start(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        self.settings = settings
        if self.fault == "start-hangs":
            time.sleep(FOREVER)
        if self.fault == "start-raises":
            raise RuntimeError(f"no login, {settings.get('secret', '')}")
        if self.fault == "start-exits":
            sys.exit(3)
        if self.fault == "start-dies":
            import os

            os._exit(7)
        if self.fault == "start-asks":
            input("API key: ")
        if self.fault == "leaves-threads":
            threading.Thread(target=time.sleep, args=(FOREVER,)).start()
            atexit.register(time.sleep, FOREVER)
        if self.fault == "prints":
            print("a library says hello", flush=True)
        return {"identity": {"id": "abc"}}

    def receive(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        self.n += 1
        if self.fault == "log-hangs":
            time.sleep(FOREVER)
        if self.fault == "log-holds-the-lock":
            ctypes.PyDLL(None).sleep(int(FOREVER))  # PyDLL keeps Python's lock
        if self.fault == "log-raises" or (self.fault == "log-raises-once" and self.n == 1):
            raise ConnectionError("HTTP 500 from http://127.0.0.1:1/api")
        if self.fault == "slow":
            time.sleep(0.3)
        self.received.append(message)
        with open(self.settings["out"], "a") as out:
            out.write(f"{message['n']}\n")
        return {"waiting": 10, "warning": "the server is down"} if self.fault == "waits" else {}

    def finish(self) -> Mapping[str, Any]:
        if self.fault == "finish-hangs":
            time.sleep(FOREVER)
        if self.fault == "finish-raises":
            raise RuntimeError("cannot say goodbye")
        return {"lost": 10} if self.fault == "waits" else {}


if __name__ == "__main__":
    serve(Faulty(sys.argv[1]))
