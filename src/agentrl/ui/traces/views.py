"""What the page of an episode shows: records that templates print, all texts ready to be read."""

from __future__ import annotations

from dataclasses import dataclass

from agentrl.ui.traces.texts import Argument, Passage


@dataclass(frozen=True)
class MessageView:
    """A message of the task."""

    role: str
    content: Passage


@dataclass(frozen=True)
class ResultView:
    """What a call was answered."""

    name: str
    output: Passage
    chars: int
    seconds: float | None
    is_error: bool
    is_cut: bool
    attempts: int


@dataclass(frozen=True)
class CallView:
    """A call, and its answer where there is one."""

    name: str
    written: Passage
    """Its arguments as text."""
    arguments: tuple[Argument, ...] | None
    """By name; None where they are no JSON object."""
    key: tuple[str, str]
    """Equal for equal calls."""
    result: ResultView | None


@dataclass(frozen=True)
class TurnView:
    """One generation and what it was answered."""

    number: int
    """From 1."""
    thoughts: Passage
    text: Passage
    written: Passage
    """All of it as sampled."""
    is_taken_apart: bool
    calls: tuple[CallView, ...]
    other_results: tuple[ResultView, ...]
    """To no call that is recorded, such as to one that could not be read."""
    tokens: int
    reasoning_tokens: int
    unseen_tokens: int
    """That a server counted and did not tell."""
    observation_tokens: int
    malformed_calls: int
    attempts: int
    seconds: float | None
    policy_version: int | None
    score: float | None
    """The grader's, of this turn."""

    @property
    def results(self) -> tuple[ResultView, ...]:
        return (*(call.result for call in self.calls if call.result), *self.other_results)


@dataclass(frozen=True)
class TokenCost:
    """What a judge read and wrote."""

    model: str
    kinds: dict[str, float]
    """Tokens by kind: prompt, completion, cached."""


@dataclass(frozen=True)
class GradeView:
    """The grader's verdict."""

    score: float | None
    reason: Passage
    """Why there is none."""
    explanation: Passage
    sub_scores: dict[str, float]
    holdout: dict[str, float]
    holdout_missing: dict[str, str]
    errors: tuple[str, ...]
    tokens: tuple[TokenCost, ...]
    cost_usd: float | None
    seconds: float | None
    version: str


@dataclass(frozen=True)
class EpisodeView:
    """All of it."""

    id: str
    task_id: str
    messages: tuple[MessageView, ...]
    item: Passage
    """Other keys of the row, as JSON; empty where it has none."""
    turns: tuple[TurnView, ...]
    answer: Passage
    outcome: str
    stop_reason: str
    failure_class: str
    error: Passage
    grade: GradeView
    seed: str
    sample_index: int | None
    seconds: float | None
    prompt_tokens: int
    output_tokens: int
    reasoning_tokens: int
    tool_calls: int
    malformed_calls: int
    cut_outputs: int
    retries: int
    cost_usd: float | None
    policy_versions: tuple[str, ...]
    problems: tuple[str, ...]
    """What of the trace could not be shown, in words."""
