"""Five tasks whose answer is known, and a policy that answers right with the chance that each item says.

Everything else is what a run has: rollout engine, tools, graders, and the probe itself.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from agentrl.chat import ChatFormat
from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.evaluation.contender import Contender, PolicySource, served
from agentrl.evaluation.probe.collect import ProbeOptions
from agentrl.evaluation.probe.report import ProbeReport
from agentrl.evaluation.probe.run import probe_contender
from agentrl.grading.build import build_grader
from agentrl.progress import SilentReporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Sample, Task
from examples.finqa.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy

NAME = re.compile(r"number of (\w+)")
ITEMS = 60
"""Tasks of each split; a probe draws 50 of them."""
EXACT = {
    "type": "string_check",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
COIN = {"type": "endpoint", "name": "coin", "url": "{serve}/grade", "max_concurrency": 32}
SERVE = [{"command": ["{python}", "-m", "benchmarks.probe.server"]}]


@dataclass(frozen=True)
class World:
    """A task, and what must be said of it."""

    name: str
    verdict: str
    code: str
    """The reason that must be among those of the verdict."""
    lowest: float
    """Success rates lie evenly between these two."""
    highest: float
    tool: str = "lookup"
    is_coin: bool = False
    """The grader flips a coin, whatever the answer."""

    def config(self) -> RunConfig:
        return RunConfig.model_validate(
            {
                "name": self.name.replace(" ", "-"),
                "workflow": {"target": "t", "baseline": "no-weights"},
                "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
                "tools": {
                    "python": [{"function": f"benchmarks.probe.tools:{self.tool}"}],
                    "serve": SERVE if self.is_coin else [],
                },
                "grading": COIN if self.is_coin else EXACT,
            }
        )

    def splits(self, seed: int) -> Splits:
        draw = random.Random(f"{self.name}/{seed}")
        names = draw.sample(range(10_000, 100_000), 2 * ITEMS)
        tasks = [
            Task(
                f"t{name}",
                ({"role": "user", "content": f"What is the number of k{name}?"},),
                {"answer": str(draw.randrange(100_000, 1_000_000)), "chance": draw.uniform(self.lowest, self.highest)},
            )
            for name in names
        ]
        return Splits(tuple(tasks[:ITEMS]), tuple(tasks[ITEMS:]))


LEARNABLE = World("learnable", "trainable", "learnable", 0.1, 0.9)
WORLDS = (
    LEARNABLE,
    World("too hard", "not", "everything_fails", 0.0, 0.0),
    World("saturated", "not", "saturated", 0.998, 0.998),
    World("noisy grader", "not", "ambiguous_grader", 0.1, 0.9, is_coin=True),
    World("leaking tool", "not", "leaking_tool", 0.1, 0.9, tool="leaky_lookup"),
)


@cache
def chat_format() -> ChatFormat:
    return ChatFormat(build_tokenizer(["what is the number of nothing known k"]))


class ChanceEngine:
    """Asks the tool once, then answers: right with the item's chance, else with another number."""

    def __init__(self, chat: ChatFormat, tasks: Sequence[Task], tool: str) -> None:
        self._chat, self._tool = chat, tool
        self._items = {f"k{task.id[1:]}": task.item for task in tasks}
        self._asked: dict[str, str] = {}
        self.policy_version, self.max_sessions = 0, 64

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        tokenizer = self._chat.tokenizer
        if session not in self._asked:
            found = NAME.search(tokenizer.decode(list(token_ids)))
            assert found is not None
            self._asked[session] = found[1]
            said = f'<tool_call>{{"name": "{self._tool}", "arguments": {{"query": "{found[1]}"}}}}</tool_call>'
        else:
            item, draw = self._items[self._asked[session]], random.Random(seed)
            said = item["answer"] if draw.random() < item["chance"] else str(draw.randrange(1_000_000, 9_000_000))
        ids = (*tokenizer.encode(said, add_special_tokens=False), self._chat.stop_id)[:max_tokens]
        return Sample(ids, (0.0,) * len(ids), is_truncated=False, policy_version=0)

    async def end_session(self, session: str) -> None:
        self._asked.pop(session, None)

    async def sync(self, policy: Policy) -> None:
        del policy

    async def aclose(self) -> None:
        pass


def probed(world: World, seed: int, options: ProbeOptions | None = None) -> ProbeReport:
    """The report of `agentrl probe` on a task, through tools and graders as the config declares them."""
    config = world.config().model_copy(update={"seed": seed})
    with served(config) as base_url:
        return asyncio.run(_probe(config, world, seed, options or ProbeOptions(), base_url))


async def _probe(config: RunConfig, world: World, seed: int, options: ProbeOptions, base_url: str) -> ProbeReport:
    sections, splits = training_sections(config), world.splits(seed)
    engine = RolloutEngine(
        ChanceEngine(chat_format(), (*splits.train, *splits.validation), world.tool),
        chat_format(),
        Toolbox.from_config(sections.tools, base_url),
        build_grader(sections.grading, base_url),
        config.rollout.model_copy(update={"max_concurrent": 64}),
    )
    try:
        contender = Contender(
            engine, PolicySource("chance", "chance"), splits, told={}, config=config, base_url=base_url
        )
        report, _ = await probe_contender(contender, options, SilentReporter())
    finally:
        await engine.aclose()
    return report
