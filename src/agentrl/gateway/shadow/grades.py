"""Both answers to a user's turn before the team's own grader: what makes quality in shadow paired evidence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from agentrl.gateway.sessions import kept_id
from agentrl.gateway.shadow.conversation import UserTurn
from agentrl.gateway.shadow.copies import CopiedTurn
from agentrl.gateway.turns import FinishedTurn
from agentrl.grading.run_grader import RunGrader
from agentrl.grading.submission import Submission


class Grading:
    """The grader of `grading:`, asked about live turns.

    The item that it is sent has `messages` (up to the user's), `session_id` and `intent`; a reference answer is what
    nobody has here, so the grader is one that judges, or that knows the question.

    Args:
        pass_threshold: of `grading`.
        timeout_seconds: for each answer; a grader that takes longer gives no score.
    """

    def __init__(self, grader: RunGrader, *, pass_threshold: float, timeout_seconds: float = 120.0) -> None:
        self._grader = grader
        self._timeout_seconds = timeout_seconds
        self.pass_threshold = pass_threshold

    @property
    def version(self) -> str:
        """Of the grader; empty where it has none."""
        return kept_id(self._grader.version) if self._grader.version else ""

    async def grade(self, turn: FinishedTurn, asked: UserTurn, copied: CopiedTurn) -> tuple[float | None, float | None]:
        """Scores of (candidate, baseline); both None where one is missing, as a pair needs both."""
        item: dict[str, Any] = {"messages": asked.messages, "session_id": turn.session_id, "intent": turn.intent}
        name = f"shadow_{turn.session_id}_{asked.number}"
        theirs = [
            {
                "id": each.call.id,
                "type": "function",
                "function": {"name": each.call.name, "arguments": each.call.arguments},
            }
            for each in asked.trace
        ]
        scores = await asyncio.gather(
            self._score(copied.answer, list(copied.proposed), item, f"{name}_candidate"),
            self._score(asked.answer, theirs, item, f"{name}_baseline"),
        )
        return (None, None) if None in scores else (scores[0], scores[1])

    async def aclose(self) -> None:
        """Close the grader's connections."""
        await self._grader.aclose()

    async def _score(self, answer: str, calls: list[dict[str, Any]], item: dict[str, Any], name: str) -> float | None:
        submission = Submission.of_text(answer, item, name)
        submission = replace(submission, sample={**submission.sample, "output_tools": calls})
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return (await self._grader.grade_submission(submission)).score
        except TimeoutError:
            return None
