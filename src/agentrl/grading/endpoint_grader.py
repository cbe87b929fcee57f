"""A grader over HTTP: POST {"sample": ..., "item": ..., "trace_id": ...}, answered {"score": number}.

`sample.output_tools` holds all calls of the episode. A reply without a usable score leaves the rollout ungraded: a
broken grader must not teach the policy that its answers are worth 0.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import httpx

from agentrl.config.graders import EndpointConfig
from agentrl.endpoint import Endpoint, EndpointFailure, Reply, excerpt, served_url
from agentrl.grading.grader import content_version, ungraded
from agentrl.grading.submission import Submission
from agentrl.types import Grade


class EndpointGrader:
    """A team's grader server.

    Args:
        asks_for_turns: `sample.turns` is sent, and `turn_scores` are expected.
        base_url: what `{serve}` in the config's url stands for.
        transport: replaces the network in tests.

    Raises:
        ConfigError: the URL or a header cannot be used.
    """

    def __init__(
        self,
        config: EndpointConfig,
        base_url: str = "",
        *,
        asks_for_turns: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._scores_turns = asks_for_turns
        self._content = content_version(config)
        name = f"grader {config.name or config.type}"
        url = served_url(name, config.url, base_url)
        self.endpoint = Endpoint(name, url, config.headers, transport=transport, **config.call_options)
        """Its health and its statistics."""

    def __repr__(self) -> str:
        return f"EndpointGrader({self.endpoint.name!r}, {self.endpoint.shown_url!r})"

    @property
    def version(self) -> str:
        """Of the declaration; a grade carries the server's own `version` and `rubric_version` behind it, if told."""
        return self._content

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    async def grade(self, submission: Submission) -> Grade:
        """Ask for the score."""
        started, n_turns = time.perf_counter(), None
        if self._scores_turns:
            submission = submission.with_turns()
            n_turns = len(submission.sample["turns"])
        body = {"sample": submission.sample, "item": submission.item, "trace_id": submission.trace_id}
        try:
            reply = await self.endpoint.post(
                body, rollout_id=submission.trace_id, action="grade", check=partial(_unusable, n_turns=n_turns)
            )
        except EndpointFailure as failure:
            return ungraded(str(failure), "other_error", seconds=time.perf_counter() - started)
        return self._read(reply)

    def _read(self, reply: Reply) -> Grade:
        where = f"{self.endpoint.name} at {self.endpoint.shown_url}"
        if reply.status >= 400 or reply.json is None:
            found = f"{where}: answered {reply.status}{excerpt(reply.text)}"
            return ungraded(found, "other_error", seconds=reply.seconds)
        try:
            score = float(reply.json["score"])
        except OverflowError:
            found = f"{where}: found score with more digits than a float holds"
            return ungraded(found, "other_error", seconds=reply.seconds)
        turn_scores = tuple(map(float, reply.json["turn_scores"])) if self._scores_turns else ()
        return Grade(score, seconds=reply.seconds, turn_scores=turn_scores, version=self._version_told(reply.json))

    def _version_told(self, body: dict[str, Any]) -> str:
        told = [f"{key}={body[key]}" for key in ("version", "rubric_version") if isinstance(body.get(key), str | int)]
        return " ".join([self._content, *told])


def _unusable(body: dict[str, Any], n_turns: int | None) -> str:
    """What is wrong with a reply; empty where it has a score. NaN and infinity are no JSON and come no further.

    Args:
        n_turns: how many turn scores were asked for; None where they were not.
    """
    if "score" not in body:
        return f"answered without `score` (keys: {', '.join(map(repr, body)) or 'none':.200})"
    score = body["score"]
    if isinstance(score, bool) or not isinstance(score, int | float):
        return f"found score {score!r:.80}; a score is a number"
    turn_scores = body.get("turn_scores")
    if n_turns is not None and not (
        isinstance(turn_scores, list) and len(turn_scores) == n_turns and all(map(_is_share, turn_scores))
    ):
        return f"found turn_scores {turn_scores!r:.80}; allowed: a list of {n_turns} numbers from 0 to 1, one a turn"
    return ""


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
