"""What can go wrong, by whose fault it is.

AgentRLError
  ConfigError (ValueError)  a file, a key or a value that the user wrote
  BaselineError             a checkpoint or tokenizer that cannot be trained from
  CheckpointError           a run directory that cannot be written or resumed
  RankError                 one of the processes of a run ended, so the others had to
  TrainingStopped           a guard ended the run; the run directory is complete up to that step
  ReleaseError              a release that cannot do what was asked of it, or a store of releases that cannot be reached
    ConflictError             somebody else changed it first
  ToolInputError            raised by a Python tool for the policy to read
  RolloutError              one boundary of one rollout broke; carries the rollout's id
    EngineError               the inference engine
    ToolError                 a tool endpoint
    SandboxError              the lifecycle endpoint, or a sandbox that died under way
    GraderError               the grader endpoint
"""

from __future__ import annotations


class AgentRLError(Exception):
    """Root of all errors that agentrl raises on purpose."""


class ConfigError(AgentRLError, ValueError):
    """The user's input is wrong: the message names the place, what was found and what is allowed."""


class BaselineError(AgentRLError):
    """The SFT baseline is missing, changed since it was pinned, or lacks what a policy needs."""


class CheckpointError(AgentRLError):
    """A run directory is in use, incomplete or does not fit the config."""


class RankError(AgentRLError):
    """Several processes train one policy, and one of them has ended: the message names it, as far as is known."""


class TrainingStopped(AgentRLError):
    """A stop rule fired: `rule` is its name; the message shows the values and the checkpoint to go back to."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class ReleaseError(AgentRLError):
    """A release may not do what was asked of it, or its records cannot be read or written."""


class ConflictError(ReleaseError):
    """Somebody else changed the release first: look at it again, and ask again."""


class ToolInputError(AgentRLError):
    """Raised inside a Python tool: the policy asked for what cannot be done, and is shown the message.

    Anything else that a tool raises is the tool's own failure: the rollout is left ungraded.
    """


class RolloutError(AgentRLError):
    """A boundary broke during a rollout: the rollout is left ungraded, never scored 0."""

    def __init__(self, message: str, *, rollout_id: str = "") -> None:
        super().__init__(message)
        self.rollout_id = rollout_id


class EngineError(RolloutError):
    """The inference engine could not generate."""


class ToolError(RolloutError):
    """A tool endpoint failed for a reason that is not the policy's (5xx, timeout, refused, 401, 403, 404, 429)."""


class SandboxError(RolloutError):
    """The episode's sandbox could not be opened, or died: it is never replaced by a blank one."""


class GraderError(RolloutError):
    """The grader gave no usable score."""
