"""The seam between rollouts and whatever generates tokens: one prompt a call, batching inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from agentrl.types import Sample

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy


class InferenceEngine(Protocol):
    """Generates continuations of token ids. Calls are concurrent; an engine batches them as it likes."""

    @property
    def policy_version(self) -> int:
        """Number of the weights that the next token is sampled from."""
        ...

    @property
    def max_sessions(self) -> int:
        """How many sessions have a place at once; more would only wait for one."""
        ...

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        """Continue `token_ids` up to the stop token or `max_tokens`.

        Args:
            token_ids: the whole context. Within a session it extends the earlier context and the ids sampled then,
                so that an engine may keep its cache.
            session: the rollout's id.
            seed: of this generation: the same seed and context draw the same random numbers.
            max_tokens: at least 1.

        Raises:
            EngineError: it could not generate; the session may try again.
        """
        ...

    async def end_session(self, session: str) -> None:
        """Forget a session's cache. Unknown sessions are ignored."""
        ...

    async def sync(self, policy: Policy) -> None:
        """From now on sample from the policy's present weights.

        Raises:
            EngineError: a session is open that cannot go on with other weights, or no server can be reached.
            ConfigError, TrainingStopped: a server cannot serve this policy.
        """
        ...

    async def aclose(self) -> None:
        """Give back what it holds outside this process; it is not used again."""
        ...
