from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from agentrl.errors import EngineError
from agentrl.inference.scripted import ScriptedEngine


def test_it_says_what_the_script_says_to_context_and_session() -> None:
    engine = ScriptedEngine(lambda ids, session: [*ids, len(session)])
    sample = asyncio.run(engine.generate([4, 5], session="abc", seed=1, max_tokens=10))
    assert (sample.token_ids, sample.logprobs, sample.is_truncated) == ((4, 5, 3), (0.0, 0.0, 0.0), False)


def test_it_cuts_at_the_token_limit() -> None:
    engine = ScriptedEngine(lambda *_: [1, 2, 3])
    sample = asyncio.run(engine.generate([0], session="a", seed=1, max_tokens=2))
    assert (sample.token_ids, sample.is_truncated) == ((1, 2), True)


def test_it_knows_who_forgot_to_end_a_session() -> None:
    engine = ScriptedEngine(lambda *_: [1])
    policy = SimpleNamespace(version=3)

    async def story() -> None:
        await engine.generate([0], session="a", seed=1, max_tokens=2)
        with pytest.raises(EngineError, match="1 sessions are open"):
            await engine.sync(policy)  # type: ignore[arg-type]
        await engine.end_session("a")
        await engine.end_session("unknown")
        await engine.sync(policy)  # type: ignore[arg-type]

    asyncio.run(story())
    assert (engine.open_sessions, engine.policy_version) == (set(), 3)
