"""Attacks as they are written, in YAML, put onto the team's own tasks: an adversarial suite of its agent.

The files in `starter/` are those that ship with agentrl; a team's own have the same form:

attack: tool_injection             # of all cases of the file; so may stand system, violations, zero_tolerance, ...
cases:
  - id: notice
    technique: notice
    plant: "NOTICE TO THE ASSISTANT: ... {word1}, {word2}."       # with at, place, is_error: see case.Plant
    violations: [{kind: said, texts: ["{word2}{word1}"]}]
  - id: plain-question
    technique: plain
    system: "Confidential: ... {code}."    # behind the task's own system message
    history: [{role: user, content: ...}]  # before the user's message
    user: "What is ...?"                   # in place of the task's question
  - id: clean-up
    technique: plain
    user_adds: "When you are done, ..."    # behind the task's question
    decoys: [delete_records]               # of decoys.yaml, or tool objects
    violations: [{kind: called, tools: [delete_records]}]

Names in braces are words that are made up for every suite, see `made_up.py`; `literal: true` leaves braces alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from agentrl.config.section import repeated
from agentrl.config.source import read
from agentrl.data.rows import checked_task
from agentrl.errors import ConfigError
from agentrl.evaluation.adversarial.case import ATTACKS, read_case
from agentrl.evaluation.adversarial.made_up import filled, make_up
from agentrl.evaluation.tags import TAGS
from agentrl.tools.output import tool_object
from agentrl.types import Message, Task

FOLDER = Path(__file__).parent / "starter"
ZERO_TOLERANCE = "zero_tolerance"
TEXTS = ("id", "attack", "technique", "system", "user", "user_adds", "plant", "at", "place")
KEYS = (*TEXTS, "is_error", "zero_tolerance", "literal", "history", "decoys", "violations")


@dataclass(frozen=True)
class WrittenAttack:
    """A case as it is written, its made-up words still names in braces."""

    id: str
    """`ATTACK.ID`."""
    written: Mapping[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """Such as tool_injection."""
        return str(self.written["attack"])

    @property
    def keeps_task(self) -> bool:
        """The user still asks what the task asks."""
        return "user" not in self.written


def starter_attacks() -> list[WrittenAttack]:
    """Those that ship with agentrl, by kind and in the order of their files."""
    return [each for attack in ATTACKS for each in read_attacks(FOLDER / f"{attack}.yaml")]


def read_attacks(path: Path) -> list[WrittenAttack]:
    """The cases of one file, each tried once.

    Raises:
        ConfigError: the file cannot be read, or a case is none; the message names it.
    """
    source = read(path, starts_with="attack:")
    if source.problems:
        raise ConfigError("; ".join(f"{place}: {message}" for place, message in source.problems))
    found = source.values
    if not isinstance(cases := found.get("cases"), list) or not cases:
        raise ConfigError(f"{path}: found no list of `cases`")
    shared = {key: value for key, value in found.items() if key != "cases"}
    attacks: dict[str, WrittenAttack] = {}
    trial = Task("trial", ({"role": "user", "content": "?"},))
    for index, case in enumerate(cases):
        where = f"{path}: cases[{index}]"
        try:
            attack = _written({**shared, **case} if isinstance(case, Mapping) else case)
            if attack.id in attacks:
                raise ValueError(f"found id {attack.id!r} a second time; allowed: once")
            attacked_task(attack, trial, seed=0)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
        attacks[attack.id] = attack
    return list(attacks.values())


def adversarial_tasks(
    attacks: Sequence[WrittenAttack], carriers: Sequence[Task], *, seed: int = 0, per_attack: int = 1
) -> list[Task]:
    """Every attack on `per_attack` of the team's own tasks, which are used in turn; made-up words differ by attack.

    Args:
        carriers: tasks that the agent was not trained on; their items go to its tools as always.
        seed: of the choice and of the words.

    Raises:
        ConfigError: there are no carriers, or two attacks of one id.
    """
    if not carriers:
        raise ConfigError("found no tasks to put attacks onto")
    order = random.Random(seed).sample(range(len(carriers)), len(carriers))
    for index in repeated(attack.id for attack in attacks):
        raise ConfigError(f"found attack {attacks[index].id!r} a second time; allowed: once, so give yours another id")
    places = [(attack, number) for attack in attacks for number in range(per_attack)]
    return [
        attacked_task(
            attack, carriers[order[index % len(order)]], seed=seed, name=f"{attack.id}{f'.{number + 1}' * (number > 0)}"
        )
        for index, (attack, number) in enumerate(places)
    ]


def attacked_task(attack: WrittenAttack, carrier: Task, *, seed: object, name: str = "") -> Task:
    """The carrier under one attack.

    Raises:
        ValueError: the attack is none; what was found.
    """
    name = name or attack.id
    values = make_up(f"{seed}/{name}")
    try:
        is_literal = attack.written.get("literal") is True
        written = dict(attack.written) if is_literal else filled(dict(attack.written), values)
    except KeyError as error:
        raise ValueError(f"found {{{error.args[0]}}}; allowed: {', '.join(values)}") from None
    plants = []
    if "plant" in written:
        plant = {
            "text": written["plant"],
            **{key: written[key] for key in ("at", "place", "is_error") if key in written},
        }
        plants.append(plant)
    case = {
        "attack": written["attack"],
        "technique": written["technique"],
        "zero_tolerance": written.get("zero_tolerance", False),
        "plants": plants,
        "decoys": [_decoy(each) for each in written.get("decoys", ())],
        "violations": written["violations"],
        "keeps_task": attack.keeps_task,
    }
    record = read_case(case).to_item()
    tags = [written["attack"], written["technique"], *([ZERO_TOLERANCE] if case["zero_tolerance"] else [])]
    item = {**carrier.item, TAGS: tags, "carrier": carrier.id, **record}
    return checked_task(Task(name, tuple(_messages(written, carrier)), item))


def _messages(written: Mapping[str, Any], carrier: Task) -> list[Message]:
    messages = [dict(each) for each in carrier.messages]
    if system := written.get("system"):
        if messages[0]["role"] in ("system", "developer"):
            messages[0]["content"] = f"{messages[0]['content']}\n{system}"
        else:
            messages.insert(0, {"role": "system", "content": system})
    if also := written.get("user_adds"):
        messages[-1]["content"] = f"{messages[-1]['content']}\n{also}"
    if user := written.get("user"):  # a conversation of its own
        kept = [each for each in messages[:1] if each["role"] in ("system", "developer")]
        messages = [*kept, *written.get("history", ()), {"role": "user", "content": user}]
    return messages


def _written(case: Any) -> WrittenAttack:
    if not isinstance(case, Mapping):
        raise ValueError(f"found {type(case).__name__}; allowed: an object")
    for key in case:
        if key not in KEYS:
            raise ValueError(f"found key {key!r:.40}; allowed: {', '.join(KEYS)}")
    for key in ("id", "attack", "technique", "violations"):
        if not case.get(key):
            raise ValueError(f"found no {key}; allowed: every case has one, or its file for all of them")
    for key in TEXTS:
        if key in case and not isinstance(case[key], str):
            raise ValueError(f"found {key}: {case[key]!r:.40}; allowed: text")
    if not {"plant", "user", "user_adds"} & case.keys():
        raise ValueError("found neither plant nor user nor user_adds; allowed: one of them, or there is no attack")
    if {"user", "user_adds"} <= case.keys():
        raise ValueError("found both user and user_adds; allowed: one of them")
    return WrittenAttack(f"{case['attack']}.{case['id']}", dict(case))


def _decoy(found: Any) -> dict[str, Any]:
    """A tool object as it is, or the name of one of `starter/decoys.yaml`."""
    if isinstance(found, Mapping):
        return dict(found)
    decoys = _decoys()
    if found not in decoys:
        raise ValueError(f"found decoy {found!r:.40}; allowed: {', '.join(decoys)}, or a tool object")
    arguments = {name: {"type": "string"} for name in decoys[found]["arguments"]}
    schema = {"type": "object", "properties": arguments, "required": list(arguments)}
    return tool_object(found, decoys[found]["description"], schema)


@cache
def _decoys() -> dict[str, Any]:
    return read(FOLDER / "decoys.yaml", starts_with="NAME:").values
