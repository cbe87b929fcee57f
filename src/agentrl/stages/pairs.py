"""Pairs of segments from recorded episodes: what a success did, and a failure did not, from where they part.

Two episodes of one task that sampled the same turns and were answered the same share a prefix. The segments begin at
the first turn that differs, so the shared turns, good in a success and good in a failure, are not judged. Both are cut
to the same number of turns, as in segment-level DPO (arXiv:2501.01821): whole episodes of unequal length would leave a
partition function that does not cancel (arXiv:2406.14868).

Token ids are compared and kept as they were sampled: text that is tokenized again may give others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agentrl.grading.versions import one_version

Ids = tuple[int, ...]

NO_GRADE = "episodes without a grade"
NO_SUCCESS = "failures of tasks without a success"
SMALL_GAP = "failures whose score is too near that of every success"
OTHER_PROMPT = "failures of another prompt than every success"
TOOL_DIFFERED = "failures where a tool answered the same call differently before the policy did"
NOTHING_DIFFERS = "failures that stop where, or end as, every success does"
REPEATED = "pairs that were there already"


@dataclass(frozen=True)
class Episode:
    """A recorded rollout, as far as pairs need it."""

    id: str
    task_id: str
    score: float | None
    prompt_ids: Ids
    turns: tuple[tuple[Ids, Ids], ...]
    """Of every turn the sampled ids, and the ids of what the environment answered."""
    grader_version: str = ""
    """Of the grader that scored it."""
    source: str = field(default="", compare=False)
    """The file that it was read from."""


@dataclass(frozen=True)
class Segment:
    """Some turns of an episode, up to the last sampled token."""

    token_ids: Ids
    action_mask: tuple[bool, ...]
    """[T] True where the policy sampled the token; what tools said is False."""


@dataclass(frozen=True)
class Pair:
    """Two continuations of one prefix, of which the first came to a better end."""

    task_id: str
    chosen_id: str
    rejected_id: str
    chosen_score: float
    rejected_score: float
    turn: int
    """Number of the first turn that differs, from 0: how many turns are shared."""
    prefix_ids: Ids
    chosen: Segment
    rejected: Segment


@dataclass
class PairReport:
    """What was found, and what was not used and why."""

    pairs: list[Pair] = field(default_factory=list)
    episodes: int = 0
    tasks: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def build_pairs(
    episodes: Iterable[Episode], *, pass_threshold: float, min_gap: float, equal_length: bool = True
) -> PairReport:
    """At most one pair a failure: with the success of its task that shares the longest prefix with it.

    Args:
        pass_threshold: an episode with at least this score is a success, any other one with a score a failure.
        min_gap: by how much the scores of a pair differ at least.
        equal_length: cut both segments to the same number of turns; otherwise each goes on to its episode's end.

    Raises:
        ConfigError: the scores are of several grader versions.
    """
    by_task: dict[str, list[Episode]] = {}
    report = PairReport()
    for episode in episodes:
        report.episodes += 1
        by_task.setdefault(episode.task_id, []).append(episode)
    report.tasks = len(by_task)
    graded = (episode for task in by_task.values() for episode in task if episode.score is not None)
    one_version("pairs", ((each.grader_version, each.source or f"episode {each.id}") for each in graded))
    seen: set[tuple[Ids, Ids, Ids]] = set()
    for task in by_task.values():
        scored = [episode for episode in task if episode.score is not None]
        report.dropped[NO_GRADE] += len(task) - len(scored)
        successes = [episode for episode in scored if _score(episode) >= pass_threshold]
        uses: Counter[str] = Counter()
        for failure in scored:
            if _score(failure) >= pass_threshold:
                continue
            found = _partner(failure, successes, uses, min_gap)
            if isinstance(found, str):
                report.dropped[found] += 1
                continue
            success, turn = found
            pair = _pair(success, failure, turn, equal_length=equal_length)
            key = (pair.prefix_ids, pair.chosen.token_ids, pair.rejected.token_ids)
            if key in seen:
                report.dropped[REPEATED] += 1
                continue
            seen.add(key)
            uses[success.id] += 1
            report.pairs.append(pair)
    report.dropped = +report.dropped  # without the reasons that never applied
    return report


def _score(episode: Episode) -> float:
    assert episode.score is not None
    return episode.score


def _partner(
    failure: Episode, successes: Sequence[Episode], uses: Counter[str], min_gap: float
) -> tuple[Episode, int] | str:
    """The best success to compare with, and the turn where they part; or why there is none."""
    if not successes:
        return NO_SUCCESS
    why = SMALL_GAP
    candidates: list[tuple[int, int, int]] = []
    for index, success in enumerate(successes):
        if _score(success) - _score(failure) < min_gap:
            continue
        turn = first_difference(success, failure)
        if isinstance(turn, str):
            why = turn
        else:
            candidates.append((-turn, uses[success.id], index))
    if not candidates:
        return why
    turn, _, index = min(candidates)
    return successes[index], -turn


def first_difference(one: Episode, other: Episode) -> int | str:
    """Number of the first turn that was sampled differently after equal tokens; or why there is no such turn."""
    if one.prompt_ids != other.prompt_ids:
        return OTHER_PROMPT
    shorter = min(len(one.turns), len(other.turns))
    for number in range(shorter):
        if one.turns[number][0] != other.turns[number][0]:
            return number
        if number + 1 < shorter and one.turns[number][1] != other.turns[number][1]:
            return TOOL_DIFFERED
    return NOTHING_DIFFERS


def _pair(success: Episode, failure: Episode, turn: int, *, equal_length: bool) -> Pair:
    prefix = [*success.prompt_ids]
    for sampled, answered in success.turns[:turn]:
        prefix += [*sampled, *answered]
    most = min(len(success.turns), len(failure.turns)) - turn if equal_length else None
    return Pair(
        task_id=success.task_id,
        chosen_id=success.id,
        rejected_id=failure.id,
        chosen_score=_score(success),
        rejected_score=_score(failure),
        turn=turn,
        prefix_ids=tuple(prefix),
        chosen=_segment(success.turns[turn:][:most]),
        rejected=_segment(failure.turns[turn:][:most]),
    )


def _segment(turns: Sequence[tuple[Ids, Ids]]) -> Segment:
    ids: list[int] = []
    mask: list[bool] = []
    for number, (sampled, answered) in enumerate(turns, start=1):
        shown = answered if number < len(turns) else ()  # nothing is learned behind the last action
        ids += [*sampled, *shown]
        mask += [True] * len(sampled) + [False] * len(shown)
    return Segment(tuple(ids), tuple(mask))
