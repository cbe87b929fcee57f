"""Examples without rollouts: episodes with utilities, and comparisons that follow them as Bradley and Terry say."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from agentrl.grading.rendering import ShownTurn, Transcript
from agentrl.reward_model.comparisons import Comparison
from agentrl.reward_model.data_file import Examples
from agentrl.reward_model.episodes import Episode


def episode(name: str, task: str, *, score: float | None = 1.0, tokens: int = 50, **fields: object) -> Episode:
    said = str(fields.pop("said", name))
    asked = str(fields.pop("asked", f"{task} ?"))
    transcript = Transcript(({"role": "user", "content": asked},), (ShownTurn(said),))
    return Episode(name, task, str(fields.pop("document", "")), score, tokens, transcript, **fields)  # type: ignore[arg-type]


def examples_of(
    n: int,
    *,
    noise: float,
    seed: int,
    longer: float = 0.5,
    scores: bool = False,
    votes: Sequence[Mapping[str, bool]] = ({},),
) -> tuple[Examples, dict[str, float]]:
    """One comparison a task, and the true utilities.

    Args:
        longer: share of tasks whose better episode is the longer one, of those with unequal lengths.
        scores: an episode's score is the sigmoid of its utility.
    """
    draw = random.Random(seed)
    episodes: dict[str, Episode] = {}
    comparisons, utility = [], dict[str, float]()
    for index in range(n):
        names = [f"e{index}-{side}" for side in "ab"]
        for name in names:
            utility[name] = draw.gauss(0, 1.5 * noise)
        is_a_better = draw.random() < 1 / (1 + math.exp(utility[names[1]] - utility[names[0]]))
        lengths = [draw.randrange(40, 60)] * 2
        if index % 4:
            is_a_longer = is_a_better == (draw.random() < longer)
            lengths[0 if is_a_longer else 1] += draw.randrange(20, 40)
        else:
            lengths[draw.randrange(2)] += draw.randrange(3)  # as good as equal
        for name, tokens in zip(names, lengths, strict=True):
            score = 1 / (1 + math.exp(-utility[name])) if scores else 1.0
            episodes[name] = episode(name, f"t{index}", score=score, tokens=tokens)
        chosen = votes[index % len(votes)]
        comparisons.append(Comparison(f"t{index}", names[0], names[1], is_a_better, 1.0, chosen))
    return Examples(episodes, tuple(comparisons)), utility
