"""A server on a real socket that speaks vLLM's routes, on a tiny model: it reads the adapters and weights it is sent.

It can be told to misbehave: see the attributes.
"""

from __future__ import annotations

import copy
import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


class _Sockets(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections are cut on purpose here."""


class FakeVLLM:
    """Serves `model` until told otherwise.

    Attributes:
        faults: what happens to the next completions, one each: "500", "reset", "hang", "slow", "abort", "400".
        is_raw: log-probabilities are those before temperature.
        is_deaf: new adapters and weights are accepted, and the ones before are used.
        is_stale: only prompts are computed with the newest weights.
        missing: routes that are not there.
        log: (path, body) of every POST; `headers` the last request's.
        aborted: completions whose client went away.
        most_running: completions at once.
    """

    def __init__(self, model: Any, *, max_model_len: int = 512) -> None:
        self.base = copy.deepcopy(model)
        self._at_start = model
        self.max_model_len = max_model_len
        self.faults: deque[str] = deque()
        self.is_raw = self.is_deaf = self.is_stale = False
        self.missing: set[str] = set()
        self.log: list[tuple[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.aborted = self.running = self.most_running = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.log]

    def start(self) -> None:
        """A fresh process: what was loaded is forgotten."""
        self.base = copy.deepcopy(self._at_start)
        self.adapters: dict[str, Any] = {}
        self.weight_version, self.is_paused = "default", False
        self._http = _Sockets(("127.0.0.1", self._port), self._handler())
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        for each in list(self._sockets):
            with suppress(OSError):  # closed already
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def _handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                fake._sockets.add(self.connection)

            def do_GET(self) -> None:
                self.answer(*fake._get(self.path))

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                fake.headers = dict(self.headers)
                fake.log.append((self.path, body))
                if self.path != "/v1/completions":
                    self.answer(*fake._post(self.path.partition("?")[0], body or {}))
                elif (fault := fake.faults.popleft() if fake.faults else "") == "reset":
                    self.close_connection = True
                    self.connection.close()
                elif fault == "hang":
                    while not select.select([self.connection], [], [], 0.01)[0]:
                        pass
                    fake.aborted += 1
                    self.close_connection = True
                elif fault in ("500", "400"):
                    self.answer(int(fault), {"error": {"message": f"told to answer {fault}"}})
                else:
                    time.sleep(0.3 if fault == "slow" else 0)
                    status, reply = fake._complete(body)
                    if fault == "abort":
                        reply["choices"][0]["finish_reason"] = "abort"
                    self.answer(status, reply)

            def answer(self, status: int, reply: Any) -> None:
                raw = b"" if reply is None else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _get(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            return 200, None
        if path == "/weight_info":
            return 200, {"weight_version": self.weight_version}
        cards = [{"id": "tiny", "parent": None, "max_model_len": self.max_model_len}]
        cards += [{"id": name, "parent": "tiny"} for name in self.adapters]
        return 200, {"data": cards}

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path in self.missing:
            return 404, {"detail": "Not Found"}
        if path == "/v1/chat/completions":
            return self._chat(body)
        if path == "/v1/load_lora_adapter":
            return self._load(body["lora_name"], body["lora_path"])
        if path == "/v1/unload_lora_adapter":
            found = self.adapters.pop(body["lora_name"], None) is not None
            return (200, None) if found else (404, {"error": {"message": "cannot be found"}})
        if path == "/collective_rpc":
            assert self.is_paused
            if not self.is_deaf:
                self.base = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"])
        elif path == "/update_weight_version":
            self.weight_version = body["new_version"]
        elif path in ("/pause", "/resume"):
            self.is_paused = path == "/pause"
        elif path == "/reset_prefix_cache":
            return 200, {"success": True}
        return 200, {}

    def _load(self, name: str, path: str) -> tuple[int, Any]:
        if name in self.adapters:
            return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}
        try:
            with self._lock:
                if self.is_deaf and self.adapters:
                    self.adapters[name] = list(self.adapters.values())[-1]
                    return 200, None
                self.adapters[name] = PeftModel.from_pretrained(copy.deepcopy(self._at_start), path).eval()
        except (OSError, ValueError):
            return 404, {"error": {"message": f"Loading lora {name} failed: No adapter found for {path}"}}
        return 200, None

    @torch.no_grad()
    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["model"]
        if name != "tiny" and name not in self.adapters:
            return 404, {"error": {"message": f"The model `{name}` does not exist."}}
        with self._counted(), self._lock:
            prompt, forced, stops = body["prompt"], [], body.get("stop_token_ids", ())
            model = self.base if name == "tiny" else self.adapters[name]
            if body.get("prompt_logprobs") is not None:
                rows = torch.log_softmax(model(torch.tensor([prompt])).logits[0], -1)
                forced = [None, *({str(t): {"logprob": float(rows[i, t])}} for i, t in enumerate(prompt[1:]))]
            if self.is_stale:
                model = self._at_start
            ids, logprobs, draw = list(prompt), [], torch.Generator().manual_seed(body.get("seed", 0) % 2**62)
            while len(logprobs) < body["max_tokens"] and (not logprobs or ids[-1] not in stops):
                logits = model(torch.tensor([ids])).logits[0, -1]
                tempered = torch.log_softmax(logits / body["temperature"], -1)
                token = int(torch.multinomial(tempered.exp(), 1, generator=draw))
                logprobs.append(float((torch.log_softmax(logits, -1) if self.is_raw else tempered)[token]))
                ids.append(token)
        choice = {
            "token_ids": ids[len(prompt) :],
            "logprobs": {"token_logprobs": logprobs},
            "finish_reason": "stop" if ids[-1] in stops else "length",
            "prompt_logprobs": forced or None,
        }
        return 200, {"choices": [choice]}

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Its template is the text's bytes; the answer is no text, but its tokens are told as vLLM tells them."""
        vocabulary = self.base.config.vocab_size
        prompt = [byte % vocabulary for each in body["messages"] for byte in each["content"].encode()]
        status, reply = self._complete({**body, "prompt": prompt})
        if status != 200:
            return status, reply
        choice = reply["choices"][0]
        content = [{"token": "", "logprob": logprob} for logprob in choice["logprobs"]["token_logprobs"]]
        told = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": choice["finish_reason"]}
        told["logprobs"] = {"content": content} if body.get("logprobs") else None
        ids = {"token_ids": choice["token_ids"]} if body.get("return_token_ids") else {}
        prompt_ids = {"prompt_token_ids": prompt} if body.get("return_token_ids") else {}
        return 200, {"object": "chat.completion", "choices": [{**told, **ids}], **prompt_ids}

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        time.sleep(0.005)
        try:
            yield
        finally:
            self.running -= 1
