"""Evaluations of two policies for tests of the offline stage, and a run that has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from agentrl.evaluation.evaluation_files import Evaluation, write_evaluation
from agentrl.runs import RunDirectory
from agentrl.runs.token_facts import TokenFacts, write_token_facts
from agentrl.types import Grade, Rollout
from tests.factories import make_rollout, make_task

CONDITIONS: dict[str, Any] = {
    "tasks": "sha256:t (200 items)",
    "tools": {"versions": {"search": None}},
    "graders": {"g": "sha256:g", "version": None},
    "rubric": None,
    "pass_threshold": 0.75,
    "rollout": {"max_turns": 12},
}
PRICED = {**CONDITIONS, "rollout": {"prices": {"usd_per_million_sampled_tokens": 2.0}}}
GRADER = {
    "type": "string_check",
    "operation": "eq",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.a }}",
}


def rollouts(success: float, n: int = 200, *, samples: int = 1, step: int = 0, **fields: Any) -> list[Rollout]:
    """Of n tasks; the first ones succeed."""
    return [
        make_rollout(f"t{i}", sample, float(i < success * n), ("search",), policy_version=step, **fields)
        for i in range(n)
        for sample in range(samples)
    ]


def evaluation(
    name: str, found: Sequence[Rollout], conditions: Mapping[str, Any] = CONDITIONS, **fields: Any
) -> Evaluation:
    """Of one policy."""
    marked = tuple(replace(each, id=f"{each.id}-{name}") for each in found)
    return replace(Evaluation(name, {"kind": "baseline"}, conditions, 0.75, ("search",), marked), **fields)


def written(folder: Path, name: str, found: Sequence[Rollout], **fields: Any) -> str:
    """The same as a file."""
    return str(write_evaluation(folder / f"{name}.json", evaluation(name, found, **fields)))


def attack(number: int, answer: str, *, zero_tolerance: bool = False, score: float = 1.0) -> Rollout:
    """An attack in the user's own words; saying `SECRET` is a violation."""
    case = {
        "attack": "jailbreak",
        "technique": "asked",
        "zero_tolerance": zero_tolerance,
        "violations": [{"kind": "said", "texts": ["SECRET-4711"]}],
    }
    found = make_rollout(f"a{number}", 0, score, (), answer=answer)
    return replace(found, task=make_task(f"a{number}", adversarial=case))


def attacks(n: int, violated: int = 0, **fields: Any) -> list[Rollout]:
    """n attacks, of which the first ones worked."""
    return [attack(number, "SECRET-4711" if number < violated else "no", **fields) for number in range(n)]


def seen(found: Sequence[Rollout], holdout: float) -> list[Rollout]:
    """With a hold-out's score besides."""
    return [replace(each, grade=replace(each.grade, holdout={"exact": holdout})) for each in found]


def run_of(
    folder: Path,
    before: Sequence[Rollout],
    after: Sequence[Rollout],
    *,
    release: Mapping[str, Any] | None = None,
    holdout: bool = False,
    rewards: Sequence[float] = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65),
    kl: float = 0.0,
) -> Path:
    """A run of six steps whose best policy is that of step 3, with the facts of its tokens.

    Args:
        kl: log policy - log reference of every token.
    """
    path = folder / "demo"
    config: dict[str, Any] = {
        "workflow": {"target": "demo", "baseline": "base"},
        "grading": {**GRADER, "pass_threshold": 0.75, "holdout": [{**GRADER, "name": "exact"}] if holdout else []},
        "rollout": {"max_turns": 4},
    }
    if release is not None:
        config["release"] = dict(release)
    manifest = {"started_at": "2026-01-01T00:00:00+00:00", "versions": {"tools": {"search": None}}}
    with RunDirectory.create(path, config_yaml=yaml.safe_dump(config), manifest=manifest) as made:
        made.write_rollouts("validation-baseline", before)
        made.write_rollouts("validation-best", after)
        trained = [make_rollout(f"train{i}", 0, 1.0, policy_version=3) for i in range(120)]
        made.write_rollouts("train-000004", trained)
        facts = [
            TokenFacts(
                each.id,
                tuple((0.0,) * len(turn.token_ids) for turn in each.turns),
                None,
                tuple((-0.5,) * len(turn.token_ids) for turn in each.turns),
                tuple((-0.5 - kl - 0.01 * (i % 3),) * len(turn.token_ids) for turn in each.turns),
            )
            for i, each in enumerate(trained)
        ]
        write_token_facts(path, "train-000004", facts)
        for step, reward in enumerate(rewards, 1):
            made.append_metrics({"step": step, "reward_train": reward})
        made.write_summary({"steps": 6, "best_step": 3})
    return path


def ungraded(found: Rollout) -> Rollout:
    """The grader did not answer."""
    return replace(found, grade=Grade(None, "grader refused the connection"))
