"""A tool and a grader in one small server: `python tests/toy_server.py MODE [PORT]`, token in TOY_TOKEN.

The grader gives 1 for an answer with a `yes` and no `no`. MODE: `normal`; `text` (the score is a word); `dies` (only
the first call is graded, then 500); `replaced` (from the 90th grade on another version gives them); `slow` (the tool
takes 0.05 s); `crashes` (the process ends in its 100th request).
It keeps sandboxes too: `/open`, `/close`, and `/open-now` for those that are open.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = sys.argv[1] if len(sys.argv) > 1 else "normal"
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 0
graded = asked = 0
sandboxes: set[str] = set()


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Toy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        global asked
        asked += 1
        if MODE == "crashes" and asked == 100:
            os._exit(1)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['TOY_TOKEN']}":
            self.answer(401, {"error": "wrong token"})
        elif self.path == "/open-now":
            self.answer(200, {"open": sorted(sandboxes)})
        elif self.path == "/open":
            sandboxes.add(request["trace_id"])
            self.answer(200, {})
        elif self.path == "/close":
            is_known = request["trace_id"] in sandboxes
            sandboxes.discard(request["trace_id"])
            self.answer(200 if is_known else 410, {})
        elif self.path == "/grade":
            self.grade(request["sample"]["output_text"])
        else:
            time.sleep(0.05 if MODE == "slow" else 0)
            self.answer(200, {"output": "yes is right", "call_id": request["call_id"]})

    def grade(self, text: str) -> None:
        global graded
        graded += 1
        if MODE == "text":
            self.answer(200, {"score": "good"})
        elif MODE == "dies" and graded > 1:
            self.answer(500, {"error": "out of order"})
        else:
            version = {"version": 1 if graded < 90 else 2} if MODE == "replaced" else {}
            self.answer(200, {"score": float("yes" in text and "no" not in text), **version})

    def answer(self, status: int, body: dict[str, object]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", PORT), Toy)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
