"""What the index of a directory of runs is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Order(StrEnum):
    """Which episodes come first."""

    NEWEST = "newest"
    LOWEST_REWARD = "lowest_reward"
    HIGHEST_REWARD = "highest_reward"
    LARGEST_CHANGE = "largest_change"  # of the item's mean score, first against last evaluation of the run
    LONGEST = "longest"  # by output tokens
    SLOWEST = "slowest"
    MOST_CALLS = "most_calls"
    REPEATED_TOOLS = "repeated_tools"  # calls of the tool that was called just before


@dataclass(frozen=True)
class EpisodeQuery:
    """Which episodes; empty fields ask for all."""

    runs: tuple[str, ...] = ()
    """Names of run directories, relative to the directory that is shown."""
    split: str = ""
    """train, validation or test."""
    without_split: str = ""
    """One that is left out."""
    file: str = ""
    """Of rollouts, such as validation-000005."""
    task_id: str = ""
    outcome: str = ""
    """completed, policy_failed or infra_failed."""
    failure_class: str = ""
    tool: str = ""
    """Called at least once."""
    contains: str = ""
    """Text in question, turns, tool calls, outputs or answer, whatever its case."""
    min_score: float | None = None
    max_score: float | None = None
    order: Order = Order.NEWEST
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True)
class EpisodeRow:
    """One episode in a list."""

    run: str
    file: str
    line: int
    """Of the file, from 0."""
    rollout_id: str
    task_id: str
    sample_index: int
    split: str
    step: int | None
    """Of training: that learned from it, or after which it was measured; 0 the baseline, None where nothing says."""
    score: float | None
    outcome: str
    stop_reason: str
    failure_class: str
    tool_calls: int
    repeated_tools: int
    output_tokens: int
    seconds: float
    cost_usd: float
    change: float | None
    """Of the item's mean score in the run, last evaluation against the first; None where one of them lacks it."""
    tools: tuple[str, ...]
    """In order of the calls."""
    question: str
    """Its beginning."""
    answer: str
    """Its beginning."""


@dataclass(frozen=True)
class EpisodePage:
    """A page of answers."""

    rows: tuple[EpisodeRow, ...]
    total: int
    """That match."""


@dataclass(frozen=True)
class RunRow:
    """One run in the list."""

    name: str
    """Relative to the directory that is shown."""
    state: str
    """running, finished, stopped, or interrupted."""
    stopped_by: str
    started_at: str
    steps: int
    planned_steps: int | None
    reward_baseline: float | None
    reward_latest: float | None
    """Newest on validation."""
    reward_best: float | None
    rollouts: int
    infra_failed: int
    problems: tuple[str, ...] = field(default=())
    """Files that could not be read, in words."""
