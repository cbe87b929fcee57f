"""An engine that says what it is told: rollouts, graders and limits can be tested without weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentrl.errors import EngineError
from agentrl.types import Sample

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy

Script = Callable[[list[int], str], Sequence[int]]
"""(context ids, session) -> ids of the next turn, stop token included."""


class ScriptedEngine:
    """Answers each prompt with `script(token_ids, session)`; every token has log-probability 0 (certain)."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.policy_version = 0
        self.max_sessions = sys.maxsize
        self.open_sessions: set[str] = set()

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        del seed
        self.open_sessions.add(session)
        ids = tuple(self._script(list(token_ids), session))
        cut = ids[:max_tokens]
        return Sample(cut, (0.0,) * len(cut), is_truncated=len(cut) < len(ids), policy_version=self.policy_version)

    async def end_session(self, session: str) -> None:
        self.open_sessions.discard(session)

    async def sync(self, policy: Policy) -> None:
        if self.open_sessions:
            raise EngineError(f"{len(self.open_sessions)} sessions are open: the weights cannot change under them")
        self.policy_version = policy.version

    async def aclose(self) -> None:
        """Nothing is held."""
