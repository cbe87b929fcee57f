"""A real vLLM server as a child process, and the baselines that it serves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import torch

from tests.engine_fixtures import CALL, END, NO, YES, make_tokenizer, qwen3

PYTHON = os.environ.get("AGENTRL_VLLM_PYTHON", "")
URL = os.environ.get("AGENTRL_VLLM_URL", "")
NO_SERVER = "needs a vLLM: `make test-vllm`, or AGENTRL_VLLM_PYTHON=/path/to/a/python/that/has/it"
START_SECONDS = 300
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
}
# Seeded requests end the CPU backend of 0.32.0 when their prompt is prefilled in chunks.
FLAGS = (
    "--dtype float32 --max-model-len 1024 --max-num-seqs 32 --enforce-eager --enable-lora --max-lora-rank 16 "
    "--max-loras 2 --served-model-name tiny --no-enable-chunked-prefill"
)
PROCESSED = ("--logprobs-mode", "processed_logprobs")


def save_baseline(folder: Path, *, is_tied: bool = False) -> Path:
    """A policy that says yes, says no, looks, or stops, by chance: it can be learned from."""
    tokenizer = make_tokenizer()
    torch.manual_seed(5)
    shape = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    model: Any = qwen3(len(tokenizer), max_position_embeddings=1024, eos_token_id=tokenizer.eos_token_id, **shape)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "lm_head" not in name:
                parameter.normal_(std=0.1)
        favoured = tokenizer.convert_tokens_to_ids([CALL, YES, NO, END])
        model.model.embed_tokens.weight[:, 0] = 5.0  # a constant in every hidden state is a bias of every logit
        model.lm_head.weight[:, 0] = -2.0
        model.lm_head.weight[favoured, 0] = 0.0
    if is_tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Server:
    """`flags` are added to those that every test needs."""

    def __init__(self, model: Path, log: Path, *flags: str) -> None:
        with socket.socket() as any_port:
            any_port.bind(("127.0.0.1", 0))
            self.port = any_port.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.model, self._log, self._flags = model, log, flags
        self.start()

    def start(self) -> None:
        words = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model), *FLAGS.split()]
        words += ["--host", "127.0.0.1", "--port", str(self.port), *self._flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT}, start_new_session=True
            )

    def wait(self) -> Server:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {self._log.read_text()[-2000:]}")
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return self
            time.sleep(0.5)
        raise RuntimeError(f"the server did not start within {START_SECONDS} s: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """As a crash would: at once, all of its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
