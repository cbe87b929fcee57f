"""Whether scores may be put side by side: only those of one version of one grader.

A changed rubric, threshold or grader server is another measure. Whoever combines scores of several rollouts, files or
runs asks `one_version` first, and refuses, or keeps the versions apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentrl.errors import ConfigError
from agentrl.types import Rollout

UNKNOWN = ""
"""Of grades that were recorded before grades had versions: they are of one version, which is no other's."""
SHOWN_DIGITS = 12


def grade_versions(rollouts: Iterable[Rollout]) -> dict[str, list[Rollout]]:
    """The graded rollouts by the version of their grader, as they come; ungraded ones are evidence of nothing."""
    found: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.grade.is_graded:
            found.setdefault(rollout.grade.version, []).append(rollout)
    return found


def one_version(what: str, found: Mapping[str, str] | Iterable[tuple[str, str]], repair: str = "") -> str:
    """The version that all grades have; `UNKNOWN` where there are none.

    Args:
        what: is about to combine them, as the message starts.
        found: each version and where it was seen, such as a file.
        repair: what can be done about it, in place of the usual advice.

    Raises:
        ConfigError: they have several; the message names two of them and where they were seen.
    """
    places: dict[str, str] = {}
    for version, place in found.items() if isinstance(found, Mapping) else found:
        places.setdefault(version, place)
        if len(places) > 1:
            break
    if len(places) > 1:
        seen = " and ".join(f"{shown(version)} in {place}" for version, place in places.items())
        advice = repair or "grade all of it with one grader first (`agentrl grader compare`), or take one of them"
        raise ConfigError(f"{what}: found grades of different grader versions, {seen}; {advice}")
    return next(iter(places), UNKNOWN)


def same_grader(version: str, other: str) -> bool:
    """Whether two versions are of one declaration, whatever a grader server told about itself."""
    return version.partition(" ")[0] == other.partition(" ")[0]


def shown(version: str) -> str:
    """A version for people: the first digits of its digest, and what the grader's server told."""
    if version == UNKNOWN:
        return "an unrecorded version"
    digest, _, told = version.partition(" ")
    algorithm, colon, digits = digest.partition(":")
    return " ".join(filter(None, (f"{algorithm}{colon}{digits[:SHOWN_DIGITS]}", told)))
