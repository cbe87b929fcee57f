"""An OpenAI-compatible server on a real socket that says what the test wants, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = dict[str, Any] | tuple[int, Any] | tuple[int, Any, dict[str, str]]
"""A body; or a status, a body and headers."""
Say = Callable[[dict[str, Any]], Answer]


def completion(
    content: Any = None,
    *calls: tuple[str, Any],
    finish_reason: str | None = None,
    prompt: int = 7,
    output: int = 5,
    thought: int = 0,
    model: str = "scripted-2026-01",
    **message: Any,
) -> dict[str, Any]:
    """A chat completion that makes these calls, each a name and arguments; text arguments are sent as they are."""
    written = [
        {"id": f"id{index}", "type": "function", "function": {"name": name, "arguments": as_text(arguments)}}
        for index, (name, arguments) in enumerate(calls)
    ]
    said = {"role": "assistant", "content": content, **({"tool_calls": written} if written else {}), **message}
    reason = finish_reason or ("tool_calls" if written else "stop")
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    usage |= {"completion_tokens_details": {"reasoning_tokens": thought}} if thought else {}  # type: ignore[dict-item]
    return {"model": model, "choices": [{"index": 0, "message": said, "finish_reason": reason}], "usage": usage}


def as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def turn_of(body: dict[str, Any]) -> int:
    """Which turn of its episode a request asks for."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def in_turns(*answers: Answer) -> Say:
    """The turns of every episode in order, the last one again and again."""
    return lambda body: answers[min(turn_of(body), len(answers) - 1)]


class ScriptedApi:
    """Answers POST /v1/chat/completions with `say(body)`.

    Attributes:
        bodies: of the requests, without those of the preflight; `headers`, in lower case, stand beside them.
    """

    def __init__(self, say: Say, key: str = "") -> None:
        self.say, self.key = say, key
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.preflights = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer, headers = api.answer(
                    self.path, body, {name.lower(): value for name, value in self.headers.items()}
                )
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients go away on purpose here."""

        self._http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return 401, {"error": {"message": f"no such key: {headers.get('Authorization')}"}}, {}
        if path != "/v1/chat/completions":
            return 404, {"error": {"message": f"no route {path}"}}, {}
        if body["messages"][-1]["content"] == "Answer with one word: ready":
            self.preflights += 1
            return 200, completion("ready"), {}
        self.bodies.append(body)
        self.headers.append(headers)
        found = self.say(body)
        if isinstance(found, dict):
            return 200, found, {}
        return found if len(found) == 3 else (*found, {})

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
