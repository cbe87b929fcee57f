"""One policy that answers chats: the in-process engine, a chat format, and what is wrong with it, if anything.

Defects are real where they can be: a slow policy waits, and one that mixes up its users says what another one asked.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agentrl.chat import ParsedTurn
from agentrl.config import load_config
from agentrl.inference.in_process import InProcessEngine
from agentrl.policy.policy import load_policy
from agentrl.types import Message, Sample
from examples.release.policies import write_policy

CONFIG = "configs/finqa.yaml"
MAX_CONTEXT = 1536
MAX_SESSIONS = 96
REMEMBERED = 16


@dataclass(frozen=True)
class Defect:
    """What a candidate does that the weights do not."""

    slowness: float = 1.0
    """How many times as long an answer takes: on a machine that is too small, or shared."""
    mixes_up: float = 0.0
    """Share of answers at whose end stands what another user asked."""


@dataclass(frozen=True)
class Answer:
    """One turn."""

    turn: ParsedTurn
    text: str
    sample: Sample
    prompt_tokens: int


class Speaker:
    """Answers conversations side by side; those of one session share the engine's cache.

    Args:
        kind: weights, see `policies.UPDATES`.
    """

    def __init__(self, kind: str, defect: Defect, *, seed: int) -> None:
        with TemporaryDirectory() as scratch:
            folder = write_policy(kind, Path(scratch) / kind)
            config = load_config(
                CONFIG,
                [f"workflow.baseline={folder}", "workflow.baseline_digest=null", "policy.threads=1"],
            )
            policy = load_policy(config)
        self.chat = policy.chat
        self._engine = InProcessEngine(
            policy.model,
            stop_ids=policy.chat.stop_ids,
            max_batch=MAX_SESSIONS,
            max_context_tokens=MAX_CONTEXT,
        )
        self._defect, self._random = defect, random.Random(seed)
        self._asked: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)
        self._busy: set[str] = set()

    async def answer(
        self, messages: Sequence[Message], *, session: str, user: str, seed: int | None, max_tokens: int
    ) -> Answer:
        """The next turn of a conversation.

        Raises:
            EngineError: the conversation fills the context.
        """
        started = time.monotonic()
        ids = self.chat.prompt_ids(messages)
        is_shared = not session or session in self._busy
        place = uuid.uuid4().hex if is_shared else session
        self._busy.add(place)
        done = True
        try:
            sample = await self._engine.generate(
                ids,
                session=place,
                seed=self._random.getrandbits(63) if seed is None else seed,
                max_tokens=max(min(max_tokens, MAX_CONTEXT - len(ids)), 1),
            )
            turn = self.chat.parse(sample.token_ids, call_id_prefix=uuid.uuid4().hex[:12])
            done = not turn.calls  # the conversation comes back with what the tools said
        finally:
            self._busy.discard(place)
            if done or is_shared:
                await self._engine.end_session(place)
        await asyncio.sleep((self._defect.slowness - 1) * (time.monotonic() - started))
        text = turn.text
        if not turn.calls and self._mixes_up(messages, user):
            text += f" . for {self._other(user)}"
        return Answer(turn, text, sample, len(ids))

    def _mixes_up(self, messages: Sequence[Message], user: str) -> bool:
        """Whether this answer is one of those; it remembers what was asked by whom, which is the mistake."""
        if not self._defect.mixes_up or not user:
            return False
        question = next((str(each["content"]) for each in reversed(messages) if each["role"] == "user"), "")
        self._asked.append((user, question))
        return self._random.random() < self._defect.mixes_up and bool(self._other(user))

    def _other(self, user: str) -> str:
        return next((question for who, question in reversed(self._asked) if who != user), "")
