"""A notebook tool and a grader with one defect, on demand: `python tests/defect_server.py DEFECT`, key in NOTES_KEY.

`/note` writes `text` and answers all notes of the trace; one call_id is carried out once. `/grade` gives 1 for the
row's answer. `/open` and `/close` are those of a sandbox; with `needs_sandbox` a note outside of one is refused. DEFECT
is `none` or one of the branches below.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEFECT = sys.argv[1] if len(sys.argv) > 1 else "none"
ROOM = 4  # of a server that falls over
lock = threading.Lock()
workers: tuple[dict[str, list[str]], ...] = (defaultdict(list), defaultdict(list))
answered: dict[tuple[str, str], str] = {}
turn, grades = itertools.count(), itertools.count()
in_flight = 0
sandboxes: set[str] = set()


def note(trace: str, call_id: str, text: str, item: dict[str, Any]) -> str:
    if DEFECT != "executes_twice" and (trace, call_id) in answered:
        return answered[trace, call_id]
    notes = workers[next(turn) % 2 if DEFECT == "loses_state" else 0]
    mine = notes["" if DEFECT == "mixes_rollouts" else trace]
    mine.append(text)
    if DEFECT == "forgets_everything":
        mine[:-1] = []
    output = "notes: " + " ".join(mine)
    if DEFECT == "leaks_answer":
        output += f" (hint: {item.get('reference_answer')})"
    if DEFECT == "escape_sequences":
        output += "\x1b[2J\u202e"
    answered[trace, call_id] = output
    return output


class Server(ThreadingHTTPServer):
    request_queue_size = 256


class Notebook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        global in_flight
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            in_flight += 1
            is_too_much = DEFECT == "falls_over" and in_flight > ROOM
        try:
            if is_too_much:
                self.answer(503, {"error": "\x1b[31mno room"})
            elif self.headers["Authorization"] != f"Bearer {os.environ['NOTES_KEY']}" and DEFECT != "accepts_any_key":
                self.answer(401, {"error": "wrong key"})
            elif self.path == "/grade":
                self.grade(request)
            elif self.path in ("/open", "/close"):
                (sandboxes.add if self.path == "/open" else sandboxes.discard)(request["trace_id"])
                self.answer(500 if f"/{DEFECT}" == f"{self.path}_fails" else 200, {"open": len(sandboxes)})
            elif DEFECT == "needs_sandbox" and request["trace_id"] not in sandboxes:
                self.answer(404, {"error": "no such sandbox"})
            else:
                time.sleep(0.02 if DEFECT == "falls_over" else 0.002)
                arguments = json.loads(request["arguments"])
                with lock:
                    output = note(request["trace_id"], request["call_id"], arguments.get("text", ""), request["item"])
                self.answer(200, {"output": output, "call_id": request["call_id"]})
        finally:
            with lock:
                in_flight -= 1

    def grade(self, request: dict[str, Any]) -> None:
        is_right = request["sample"]["output_text"] == str(request["item"]["reference_answer"])
        noise = 0.5 * (next(grades) % 2) if DEFECT == "flaky_grader" else 0.0
        score: Any = max(0.0, float(is_right) - noise) if is_right else noise
        self.answer(200, {"score": "good" if DEFECT == "wordy_grader" else 0.0 if DEFECT == "blind_grader" else score})

    def answer(self, status: int, body: dict[str, object]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Notebook)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
