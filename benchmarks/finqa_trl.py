"""trl's GRPOTrainer on FinQA: the same tools and the same grader, as plain Python functions that ask the server."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from agentrl.config import RunConfig
from agentrl.data.tasks import Splits
from agentrl.types import Task

from .rollouts.peers import grpo_trainer


@dataclass(frozen=True)
class Saved:
    """Weights on the way."""

    folder: Path
    rollouts: int
    seconds: float


class Peer:
    """trl's GRPOTrainer on the task.

    Args:
        setting: "rollouts a batch:learning rate".
        server: base URL of tools and grader.
    """

    def __init__(
        self, config: RunConfig, splits: Splits, server: str, setting: str, options: argparse.Namespace
    ) -> None:
        rollouts, rate = setting.split(":")
        self.setting, self.rollouts = setting, int(rollouts)
        self._http = httpx.Client(base_url=server, headers={"Authorization": f"Bearer {os.environ['FINQA_TOKEN']}"})
        self._price = config.ppo.token_penalty.per_1000_tokens / 1000
        baseline = config.workflow.baseline
        model = AutoModelForCausalLM.from_pretrained(baseline, dtype=torch.float32, attn_implementation="sdpa")
        self._tokenizer = AutoTokenizer.from_pretrained(baseline)
        minibatch = min(self.rollouts, self.rollouts_a_step(config))
        micro_batch = min(options.trl_micro_batch, minibatch)
        self.trainer = grpo_trainer(
            model,
            self._tokenizer,
            rows=_rows(splits.train, config.seed),
            tools=self._tools(),
            reward=self._reward,
            learning_rate=float(rate),
            lr_scheduler_type="constant",
            beta=config.ppo.kl.coef,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=minibatch // micro_batch,
            steps_per_generation=self.rollouts // micro_batch,
            num_generations=config.ppo.samples_per_task,
            max_completion_length=config.rollout.max_context_tokens - 128,
            generation_kwargs={"max_new_tokens": config.rollout.max_turn_tokens},  # of a turn: else it is the episode's
            max_tool_calling_iterations=config.rollout.max_tool_calls,
            num_train_epochs=100,
            seed=config.seed,
        )

    @staticmethod
    def rollouts_a_step(config: RunConfig) -> int:
        """Rollouts of one optimiser step of ours."""
        return config.ppo.tasks_per_step * config.ppo.samples_per_task // config.ppo.minibatches

    def train(self, folder: Path, seconds: float) -> list[Saved]:
        """Until `seconds` have passed; weights are saved after every batch of rollouts."""
        stopwatch = _Stopwatch(self.trainer, folder, self.rollouts, seconds)
        self.trainer.add_callback(stopwatch)
        self.trainer.train()
        return stopwatch.saved

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

    def _call(self, name: str, arguments: dict[str, str]) -> str:
        call = {"type": "function_call", "call_id": "0", "id": "0", "name": name, "arguments": json.dumps(arguments)}
        return str(self._post(f"/tools/{name}", call)["output"])

    def _tools(self) -> list[Callable[..., str]]:
        def search(query: str) -> str:
            """Find pages.

            Args:
                query: words.
            """
            return self._call("search", {"query": query})

        def list(path: str) -> str:  # the policy knows it by this name
            """List a folder.

            Args:
                path: of the folder.
            """
            return self._call("list", {"path": path})

        def cat(path: str) -> str:
            """Read a page.

            Args:
                path: of the page.
            """
            return self._call("cat", {"path": path})

        def calculate(expression: str) -> str:
            """Calculate.

            Args:
                expression: numbers and operators.
            """
            return self._call("calculate", {"expression": expression})

        return [search, list, cat, calculate]

    def _reward(self, completions: Sequence[Any], item: Sequence[str], **_: Any) -> list[float]:
        """The grader's score less the price of what the policy said."""
        rewards = []
        for messages, grades in zip(completions, map(json.loads, item), strict=True):
            said = [message for message in messages if message["role"] == "assistant"]
            answer = messages[-1].get("content") if messages and messages[-1]["role"] == "assistant" else ""
            sample = {"output_text": answer or ""}
            score = self._post("/grade", {"sample": sample, "item": grades, "trace_id": "trl"})["score"]
            texts = [self._tokenizer.apply_chat_template([message], tokenize=False) for message in said]
            rewards.append(score - self._price * sum(len(self._tokenizer(text).input_ids) for text in texts))
        return rewards


def _rows(tasks: Sequence[Task], seed: int) -> list[dict[str, Any]]:
    rows = [{"prompt": [*task.messages], "item": json.dumps(task.item)} for task in tasks]
    random.Random(seed).shuffle(rows)
    return rows


class _Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Saves the weights after every batch of rollouts, and ends the training in time."""

    def __init__(self, trainer: Any, folder: Path, rollouts: int, limit: float) -> None:
        self._trainer, self._folder, self._rollouts, self._limit = trainer, folder, rollouts, limit
        arguments = trainer.args
        self._steps_of_a_batch = arguments.steps_per_generation // arguments.gradient_accumulation_steps
        self._started = 0.0
        self.saved: list[Saved] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, state, control
        self._started = self._started or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        batches, rest = divmod(state.global_step, self._steps_of_a_batch)
        seconds = time.perf_counter() - self._started
        if not rest:
            folder = self._folder / f"batch-{batches:06d}"
            self._trainer.model.save_pretrained(folder)
            self.saved.append(Saved(folder, batches * self._rollouts, seconds))
            print(f"trl batch {batches} {seconds:.0f} s", file=sys.stderr, flush=True)
            control.should_training_stop = seconds > self._limit
