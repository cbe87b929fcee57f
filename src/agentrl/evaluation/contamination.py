"""Whether what a suite measures was trained on: then its figures prove nothing, and no release may rest on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from agentrl.data.overlap import SHOWN, overlaps
from agentrl.errors import ConfigError
from agentrl.evaluation.adversarial.case import case_of
from agentrl.evaluation.adversarial.forms import plain
from agentrl.evaluation.suites import Suite
from agentrl.types import Message, Task

MIN_CHARS = 40
"""Letters and digits of an attack that is looked for in training texts: shorter ones occur by chance."""


def contamination(
    suite: Suite, train: Sequence[Task] = (), conversations: Iterable[Sequence[Message]] = ()
) -> list[str]:
    """What suite and training data share, in words; empty where they share nothing.

    Ids, user messages and documents are compared as between splits, letters alone, in any case. Of an adversarial
    suite also what is planted and what its user says is looked for in every text: a policy that has seen the attack
    with its answer is measured on its memory.

    Args:
        train: tasks that the policy, its baseline or its reward model was trained on.
        conversations: what it was tuned on, as `messages`.
    """
    name = f"suite {suite.name}"
    talks = [Task(f"conversation {number}", tuple(each)) for number, each in enumerate(conversations, 1)]
    asked = [Task(each.id, tuple(m for m in each.messages if m["role"] == "user")) for each in talks]
    found = overlaps({name: suite.tasks, "train": train}) + overlaps(
        {name: suite.tasks, "the conversations": [each for each in asked if each.messages]}
    )
    return [*found, *_attacks_seen(name, suite.tasks, [*train, *talks])]


def refuse_contamination(
    suite: Suite, train: Sequence[Task] = (), conversations: Iterable[Sequence[Message]] = ()
) -> None:
    """As `contamination`.

    Raises:
        ConfigError: they share something; every kind of it is named, with the first offenders.
    """
    if problems := contamination(suite, train, conversations):
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise ConfigError(
            f"suite {suite.name}: was trained on, so it measures memory; take what is named out of the training data, "
            f"or out of the suite (--allow-contamination measures all the same, and says so in the file):{lines}"
        )


def _attacks_seen(name: str, tasks: Sequence[Task], seen: Sequence[Task]) -> Iterator[str]:
    wanted = {text: task.id for task in tasks for text in _attack_texts(task)}
    if not wanted:
        return
    offenders = []
    for task in seen:
        texts = plain(json.dumps([task.messages, task.item], ensure_ascii=False, default=str))
        offenders += [f"{attack!r} in {task.id!r}" for text, attack in wanted.items() if text in texts]
    if offenders:
        more = ", ..." if len(offenders) > SHOWN else ""
        yield f"{name} and training texts share attacks: {', '.join(offenders[:SHOWN])}{more}"


def _attack_texts(task: Task) -> Iterator[str]:
    """The attacker's own words, line by line."""
    case = case_of(task)
    if case is None:
        return
    told = [plant.text for plant in case.plants]
    if not case.keeps_task:
        told.append(str(task.messages[-1]["content"]))
    for line in (line for text in told for line in text.splitlines()):
        if len(plain(line)) >= MIN_CHARS:
            yield plain(line)
