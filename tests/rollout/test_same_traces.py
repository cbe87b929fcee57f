"""Equal seeds give equal files of traces, other seeds other ones."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path

from agentrl.chat import ChatFormat
from agentrl.config import RolloutConfig
from agentrl.inference.scripted import ScriptedEngine
from agentrl.rollout.engine import RolloutEngine
from agentrl.runs import RunDirectory
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Sample
from tests.engine_fixtures import CALL, FakeGrader, FakeTool, make_tokenizer
from tests.factories import make_task
from tests.same_runs import traces_of

TOKENIZER = make_tokenizer()
CHAT = ChatFormat(TOKENIZER)


class DrawingEngine(ScriptedEngine):
    """Calls a tool or answers, at random, and after a pause of random length: episodes finish in any order."""

    def __init__(self) -> None:
        super().__init__(lambda *_: [])
        self.pauses = random.Random()

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        del token_ids, session, max_tokens
        await asyncio.sleep(self.pauses.random() / 500)
        draw = random.Random(seed)
        text = draw.choice([CALL, f"yes {draw.random()}"])
        ids = (*TOKENIZER.encode(text, add_special_tokens=False), CHAT.stop_id)
        return Sample(ids, tuple(-draw.random() for _ in ids), is_truncated=False, policy_version=0)


def trace_file(run: RunDirectory, name: str, seed: int) -> bytes:
    engine = RolloutEngine(
        DrawingEngine(), CHAT, Toolbox([FakeTool(seconds=0.001)]), FakeGrader(), RolloutConfig(max_tool_calls=3)
    )
    tasks = [make_task(f"t{number}") for number in range(4)]
    run.write_rollouts(name, asyncio.run(engine.run(tasks, samples_per_task=3, seed=f"{seed}/train/1")))
    return json.dumps(traces_of(run.path, name)).encode()  # but for what clocks decide, and the ids made unique


def test_the_same_seed_gives_the_same_file_of_traces_and_another_seed_another(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        one, again, other = (trace_file(run, name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one == again
    assert one != other
    assert len(json.loads(one)) == 12
