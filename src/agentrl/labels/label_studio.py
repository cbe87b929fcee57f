"""Label Studio: episodes as its tasks, and its JSON export as labels.

A task is {"data": {...}, "meta": {...}}; `meta` holds the ids, which come back with the annotations. What people
choose comes back as results, each with a type and a value:

{"type": "rating", "value": {"rating": 4}}               1 to 5 stars -> 0 to 1
{"type": "number", "value": {"number": 0.7}}             0 to 1
{"type": "choices", "value": {"choices": ["good"]}}      good or bad
{"type": "pairwise", "value": {"selected": "left"}}      which of two
{"type": "textarea", "value": {"text": ["why"]}}         the note

https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.json_files import read_json_file
from agentrl.labels.conversation import Piece, as_html, conversation, episode_of, facts_of, task_of
from agentrl.labels.records import Preference, Rating, now
from agentrl.types import Rollout

STARS = 5
GOOD = ("good", "pass", "yes", "correct")
BAD = ("bad", "fail", "no", "wrong")

RATING_CONFIG = f"""\
<View>
  <HyperText name="episode" value="$episode"/>
  <Header value="How good is this? 1 star: a failure; {STARS} stars: as it should be."/>
  <Rating name="score" toName="episode" maxRating="{STARS}" required="true"/>
  <TextArea name="note" toName="episode" rows="2" maxSubmissions="1" placeholder="Why? (may stay empty)"/>
</View>
"""
PAIRWISE_CONFIG = """\
<View>
  <HyperText name="task" value="$task"/>
  <Header value="Which is better? Click on it."/>
  <Pairwise name="preference" toName="left,right"/>
  <View style="display: flex; gap: 2em">
    <View style="flex: 1"><HyperText name="left" value="$left"/></View>
    <View style="flex: 1"><HyperText name="right" value="$right"/></View>
  </View>
  <TextArea name="note" toName="task" rows="2" maxSubmissions="1" placeholder="Why? (may stay empty)"/>
</View>
"""


def rating_tasks(rollouts: Iterable[Rollout]) -> list[dict[str, Any]]:
    """One task an episode."""
    return [
        {
            "data": {"episode": as_html(_with_facts(rollout, conversation(rollout)))},
            "meta": {"rollout_id": rollout.id, "task_id": rollout.task.id},
        }
        for rollout in rollouts
    ]


def pairwise_tasks(rollouts: Iterable[Rollout], *, per_task: int, seed: int = 17) -> list[dict[str, Any]]:
    """Pairs of episodes of one task, drawn at random, as is which of them stands on the left: position tells nothing.

    Args:
        per_task: most pairs of one task.
    """
    by_task: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_task.setdefault(rollout.task.id, []).append(rollout)
    tasks = []
    for task_id, group in by_task.items():
        draw = random.Random(f"{seed}/{task_id}")
        pairs = list(combinations(group, 2))
        for pair in draw.sample(pairs, min(per_task, len(pairs))):
            left, right = draw.sample(pair, 2)
            tasks.append(
                {
                    "data": {
                        "task": as_html(_with_facts(left, task_of(left))),
                        "left": as_html(episode_of(left)),
                        "right": as_html(episode_of(right)),
                    },
                    "meta": {"task_id": task_id, "left": left.id, "right": right.id},
                }
            )
    return tasks


def _with_facts(rollout: Rollout, pieces: Iterator[Piece]) -> Iterator[Piece]:
    yield from pieces
    if facts := facts_of(rollout.task.item):
        yield Piece("row", json.dumps(facts, ensure_ascii=False, indent=2))


@dataclass(frozen=True)
class Exported:
    """What an export holds."""

    labels: tuple[Rating | Preference, ...]
    """In the order of the file."""
    passed_over: dict[str, int]
    """Annotations that are no label, by the reason."""


def read_export(path: Path, *, stars: int = STARS) -> Exported:
    """The labels of Label Studio's JSON export.

    Args:
        stars: `maxRating` of the labelling config.

    Raises:
        ConfigError: no such export; the message names the task and the annotation, what was found, what is allowed.
    """
    labels: list[Rating | Preference] = []
    passed_over: Counter[str] = Counter()
    for index, task in enumerate(_tasks(path)):
        where = f"{path}: [{index}]"
        if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
            raise ConfigError(
                f"{where}: found no annotations; allowed: a task of the JSON export (not JSON-MIN or CSV)"
            )
        for position, annotation in enumerate(task["annotations"]):
            here = f"{where}.annotations[{position}]"
            try:
                found = _label(task, annotation, stars)
            except ValueError as error:
                raise ConfigError(f"{here}: {error}") from error
            if isinstance(found, str):
                passed_over[found] += 1
            else:
                labels.append(found)
    return Exported(tuple(labels), dict(passed_over))


def _tasks(path: Path) -> list[Any]:
    tasks = read_json_file(path)
    if not isinstance(tasks, list):
        raise ConfigError(f"{path}: found no list; allowed: Label Studio's JSON export, a list of tasks")
    return tasks


def _label(task: Mapping[str, Any], annotation: Any, stars: int) -> Rating | Preference | str:
    """The label that an annotation is, or why it is none."""
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
        raise ValueError("found no result; allowed: an annotation with result, a list")
    if annotation.get("was_cancelled"):
        return "skipped by the annotator"
    results = [result for result in annotation["result"] if isinstance(result, dict)]
    about = {"rater": _rater(annotation), "note": _note(results), "labelled_at": _time(annotation)}
    ids = _ids(task)
    for result in results:
        value = result.get("value")
        if result.get("type") == "pairwise" and isinstance(value, dict):
            if value.get("selected") not in ("left", "right"):
                raise ValueError(f"found selected {value.get('selected')!r:.80}; allowed: left, right")
            chosen, rejected = ("left", "right") if value["selected"] == "left" else ("right", "left")
            return Preference(ids("task_id"), ids(chosen), ids(rejected), **about)
        if result.get("type") in SCORES and isinstance(value, dict):
            score = SCORES[result["type"]](value, stars)
            return Rating(ids("rollout_id"), ids("task_id"), score=score, **about)
    return "nothing chosen"


def _ids(task: Mapping[str, Any]) -> Any:
    """Looks ids up where the task carries them."""

    def of(key: str) -> str:
        for place in ("meta", "data"):
            holder = task.get(place)
            if isinstance(holder, dict) and isinstance(holder.get(key), str):
                return str(holder[key])
        raise ValueError(f"found no {key} in the task's meta; allowed: tasks as `agentrl labels export` writes them")

    return of


def _rater(annotation: Mapping[str, Any]) -> str:
    """The annotator's e-mail address where the export has it, else their number."""
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    if not isinstance(who, str | int) or isinstance(who, bool) or not str(who).strip():
        raise ValueError(f"found completed_by {annotation.get('completed_by')!r:.80}; allowed: who annotated it")
    return who if isinstance(who, str) else f"label-studio-{who}"


def _time(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or now())


def _note(results: Sequence[Mapping[str, Any]]) -> str:
    values = [result.get("value") for result in results if result.get("type") == "textarea"]
    texts = [value.get("text") for value in values if isinstance(value, dict)]
    lines = [line for text in texts for line in (text if isinstance(text, list) else [text])]
    return "\n".join(line for line in lines if isinstance(line, str))


def _of_stars(value: Mapping[str, Any], stars: int) -> float:
    found = value.get("rating")
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= stars:
        raise ValueError(f"found rating {found!r:.80}; allowed: a whole number from 1 to {stars} (--stars)")
    return (found - 1) / (stars - 1)


def _of_number(value: Mapping[str, Any], stars: int) -> float:
    del stars
    found = value.get("number")
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found <= 1:
        raise ValueError(f"found number {found!r:.80}; allowed: a number from 0 to 1")
    return float(found)


def _of_choices(value: Mapping[str, Any], stars: int) -> float:
    del stars
    found = value.get("choices")
    word = str(found[0]).lower() if isinstance(found, list) and len(found) == 1 else ""
    if word not in GOOD + BAD:
        raise ValueError(f"found choices {found!r:.80}; allowed: one of {', '.join(GOOD + BAD)}")
    return float(word in GOOD)


SCORES = {"rating": _of_stars, "number": _of_number, "choices": _of_choices}
