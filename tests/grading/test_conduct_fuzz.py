"""Whatever a sample holds, a grader of conduct answers with a finite score from 0 to 1, or with a reason."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from agentrl.config.graders import EfficiencyConfig, PolicyCheckConfig, ToolUseConfig
from agentrl.config.graders.conduct import BandConfig, PatternConfig
from agentrl.grading import Submission, build_declared

WORDS = ("", "search", "\x00", "\ud800", "{{ item.a }}", "a@b.co", "1" * 400, "[" * 3000, "nan", '{"q": 1}', "é\u200b",
         "+" + "1 " * 50, "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", ":::::", "1e309")  # fmt: skip
CONFIGS = (
    ToolUseConfig(type="tool_use", required=("search",), before=(("search", "cat"),), max_in_a_row=1, max_calls=2),
    PolicyCheckConfig(type="policy_check", red_flags=(PatternConfig(pattern=r"(\w+)\s*=\s*\1"),), partial_credit=True),
    EfficiencyConfig(type="efficiency", calls=BandConfig(free=0, limit=2), tokens=BandConfig(free=1, limit=9)),
)


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value, likely of the shape of a tool call."""
    if depth > 4 or rng.random() < 0.3:
        return rng.choice([*WORDS, None, True, 0, -1, 1e308, 10**40])
    if rng.random() < 0.4:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = ("function", "name", "arguments", "id", rng.choice(WORDS))
    return {key: anything(rng, depth + 1) for key in rng.sample(keys, rng.randrange(1, 5))}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.type)
def test_no_sample_breaks_a_grader_of_conduct(config: Any) -> None:
    rng, grader = random.Random(11), build_declared(config)

    async def grade_all() -> None:
        for _ in range(1000):
            tools = [anything(rng) for _ in range(rng.randrange(4))] if rng.random() < 0.9 else anything(rng)
            sample = {"output_text": anything(rng), "output_tools": tools}
            grade = await grader.grade(Submission(sample, {"reference_answer": anything(rng)}))
            assert (grade.score is None) == bool(grade.reason)
            assert grade.score is None or 0 <= grade.score <= 1

    asyncio.run(grade_all())
