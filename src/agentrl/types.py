"""The records that rooms hand to each other: frozen, plain Python, one sentence a field.

Task -> Rollout (Turns, each with its ToolCalls and ToolResults) -> Grade -> Trajectory
A later room returns a new record (`replace(rollout, grade=grade)`); nothing here knows about tensors or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Message = dict[str, Any]
"""A chat message in OpenAI's form: role, content, and tool_calls or tool_call_id where they apply."""


class StopReason(StrEnum):
    """Why a rollout ended. All but the last two are the policy's own doing and are graded."""

    FINAL = "final"  # the policy gave its answer
    TOOL_BUDGET = "tool_budget"  # it called a tool again after being told that the budget was spent
    TURN_LIMIT = "turn_limit"  # max_turns without an answer
    TOKEN_BUDGET = "token_budget"  # a turn, the episode's output or the context ran out of tokens
    COST_BUDGET = "cost_budget"  # max_cost_usd is spent
    STUCK = "stuck"  # it repeated one tool call over and over
    TIME_LIMIT = "time_limit"  # the rollout's seconds ran out; an artificial cut, so ungraded
    INFRASTRUCTURE = "infrastructure"  # a tool, the engine or the sandbox failed: no reward, no loss, no vote


class Outcome(StrEnum):
    """What a finished rollout is worth to those who learn from it or count it."""

    COMPLETED = "completed"  # answered and graded
    POLICY_FAILED = "policy_failed"  # ran into a limit by its own doing, and graded
    INFRA_FAILED = "infra_failed"  # cut off, or without a grade: no reward, no loss, no vote in any statistic


class FailureClass(StrEnum):
    """What broke a rollout that is infra_failed."""

    ENGINE = "engine"
    TOOL = "tool"
    SANDBOX = "sandbox"  # it could not be opened, or died under way
    GRADER = "grader"
    TIME = "time"  # the rollout's seconds ran out


@dataclass(frozen=True)
class Task:
    """One row of the data set."""

    id: str
    """Unique over all splits."""
    messages: tuple[Message, ...]
    """The conversation so far; the last one is the user's."""
    item: dict[str, Any] = field(default_factory=dict, repr=False)
    """All other keys of the row: what graders and tools receive as `item`."""


@dataclass(frozen=True)
class ToolCall:
    """A call as the policy wrote it."""

    id: str
    name: str
    arguments: str
    """JSON object as text."""


DENIALS = ("policy", "scope", "refused", "approval_timeout")
"""A rule forbids the tool; its arguments are out of scope; a person said no; nobody said anything in time."""


@dataclass(frozen=True)
class ToolResult:
    """What the policy was shown for one call."""

    call_id: str
    name: str
    output: str
    seconds: float
    is_error: bool = False
    """The call was answered with an error text (4xx, unknown tool, malformed arguments): the policy's to learn from."""
    attempts: int = 1
    is_cut: bool = False
    """The output was longer than allowed; what was shown says so."""
    denied: str = ""
    """Why the call was never made, one of DENIALS; empty where it was, or where there is no tool policy."""


@dataclass(frozen=True)
class Sample:
    """One generation of an inference engine."""

    token_ids: tuple[int, ...]
    """[T] as sampled, the stop token included."""
    logprobs: tuple[float, ...]
    """[T] log-probability under the sampling distribution, in nats."""
    is_truncated: bool
    """The token limit came before a stop token."""
    policy_version: int
    """Of the weights that these tokens were sampled from."""


@dataclass(frozen=True)
class Turn:
    """One generation and what the environment answered."""

    token_ids: tuple[int, ...]
    """[T] sampled ids, exactly as trained on."""
    engine_logprobs: tuple[float, ...]
    """[T] log-probability under the engine, in nats."""
    text: str
    tool_calls: tuple[ToolCall, ...]
    tool_results: tuple[ToolResult, ...]
    observation_ids: tuple[int, ...]
    """[O] ids appended after the turn: tool outputs and the next generation prompt; never trained on."""
    policy_version: int
    seconds: float
    """Generation, from request to last token (waiting for a place in the batch included)."""
    reasoning_tokens: int = 0
    """How many of them are thoughts, which neither tools nor the grader are shown."""
    malformed_calls: int = 0
    """Tool calls that could not be read; each was answered by text, in `tool_results`."""
    attempts: int = 1
    """Generations asked for until one came."""
    unseen_tokens: int = 0
    """Sampled tokens that a server counted and did not tell; of an API model, all of them."""

    @property
    def output_tokens(self) -> int:
        """Tokens the policy sampled."""
        return len(self.token_ids) + self.unseen_tokens


@dataclass(frozen=True)
class Grade:
    """The grader's verdict: a score, or the reason why there is none."""

    score: float | None
    reason: str = ""
    """Why ungraded; empty when graded."""
    seconds: float = 0.0
    sub_scores: dict[str, float] = field(default_factory=dict)
    """Of the parts of a grader that has parts; a part of a part is named `part.part`."""
    turn_scores: tuple[float, ...] = ()
    """[turns] From 0 to 1, how good each turn was; empty where the grader was not asked."""
    explanation: str = ""
    """What a graded score rests on, in words: a judge's steps, the numbers compared, the rule that was broken."""
    errors: tuple[str, ...] = ()
    """Flags of the graders/run reply that were raised, such as "sample_parse_error"; a graded score may
    carry some (the sample's fault), an ungraded one says which side broke. "request_refused" is an API's, of a turn."""
    version: str = ""
    """Digest of the grader that gave it, see `Grader.version`: grades of different versions are never compared."""
    cost_usd: float = 0.0
    """At the judge's prices; 0 where nothing is paid for."""
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    """Judge model -> prompt, completion and cached tokens."""
    holdout: dict[str, float] = field(default_factory=dict)
    """Scores of graders that are watched and never rewarded, by name; what they could not grade is missing."""
    holdout_missing: dict[str, str] = field(default_factory=dict)
    """Why those gave no score that gave none, by name."""

    @property
    def is_graded(self) -> bool:
        return self.score is not None


@dataclass(frozen=True)
class Rollout:
    """One episode of one task, complete with its trace."""

    id: str
    """`trace_<uuid>`, on every tool call and on the grader call."""
    task: Task = field(repr=False)
    sample_index: int
    """Which of the task's samples this is."""
    seed: int
    prompt_ids: tuple[int, ...] = field(repr=False)
    turns: tuple[Turn, ...] = field(repr=False)
    stop_reason: StopReason
    answer: str
    """Text of the last turn; empty when the rollout never answered."""
    seconds: float
    """Wall time from the first token to the last, grading excluded."""
    grade: Grade = field(default_factory=lambda: Grade(None, "not graded yet"))
    error: str = ""
    """What failed, for INFRASTRUCTURE and TIME_LIMIT."""
    broken_by: FailureClass | None = None
    """Whose failure ended it, for INFRASTRUCTURE."""
    cost_usd: float = 0.0
    """At the prices of the config; 0 where it declares none."""

    @property
    def outcome(self) -> Outcome:
        """Until a grade is there, a rollout counts as infra_failed: what has no score has no vote."""
        if self.stop_reason in (StopReason.INFRASTRUCTURE, StopReason.TIME_LIMIT) or not self.grade.is_graded:
            return Outcome.INFRA_FAILED
        return Outcome.COMPLETED if self.stop_reason is StopReason.FINAL else Outcome.POLICY_FAILED

    @property
    def failure_class(self) -> FailureClass | None:
        """What broke it; None for a valid rollout."""
        if self.is_valid:
            return None
        if self.stop_reason is StopReason.TIME_LIMIT:
            return FailureClass.TIME
        return self.broken_by or FailureClass.GRADER

    @property
    def is_valid(self) -> bool:
        """It may be learned from and counted: graded, and ended by the policy rather than by infrastructure."""
        return self.outcome is not Outcome.INFRA_FAILED

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(call for turn in self.turns for call in turn.tool_calls)

    @property
    def output_tokens(self) -> int:
        """Tokens the policy sampled."""
        return sum(turn.output_tokens for turn in self.turns)

    @property
    def reasoning_tokens(self) -> int:
        """Of `output_tokens`, those that are thoughts."""
        return sum(turn.reasoning_tokens for turn in self.turns)

    @property
    def malformed_calls(self) -> int:
        """Tool calls that could not be read."""
        return sum(turn.malformed_calls for turn in self.turns)

    @property
    def cut_outputs(self) -> int:
        """Tool outputs that were longer than allowed."""
        return sum(result.is_cut for turn in self.turns for result in turn.tool_results)

    @property
    def retries(self) -> int:
        """Attempts beyond the first, of generations and tool calls."""
        return sum(turn.attempts - 1 + sum(result.attempts - 1 for result in turn.tool_results) for turn in self.turns)

    @property
    def policy_versions(self) -> tuple[int, ...]:
        """Versions of the weights that sampled it, ascending; more than one where they changed between turns."""
        return tuple(sorted({turn.policy_version for turn in self.turns}))


@dataclass(frozen=True)
class Trajectory:
    """A graded rollout as one token sequence; every list has length T."""

    rollout_id: str
    task_id: str
    """Rollouts of one task form a group."""
    token_ids: tuple[int, ...]
    action_mask: tuple[bool, ...]
    """True where the policy sampled the token."""
    engine_logprobs: tuple[float, ...]
    """Log-probability under the engine where action_mask, else 0."""
    turn_ids: tuple[int, ...]
    """Index of the turn that sampled the token, -1 off the mask."""
    policy_versions: tuple[int, ...]
    """Version of the policy that sampled the token, -1 off the mask."""
    score: float
    """The grader's."""
    reward: float
    """What PPO optimises: score less penalties, before KL; lies on the last action token."""
    turn_rewards: tuple[float, ...] = ()
    """[turns] What each turn earned by itself, on its last action token, besides `reward`; empty where nothing did."""
    state_keys: tuple[str, ...] = ()
    """[turns] Equal where the policy had last seen the same before the turn (prompt or tool outputs); for GiGPO."""
