"""Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import re
from typing import Any

from agentrl.errors import ConfigError

PLACE = re.compile(r"(grader: )?([\w\[\].-]+): ")


class RouteError(Exception):
    """A request that is refused, or that failed."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @classmethod
    def of_grader(cls, error: ConfigError) -> RouteError:
        """A declaration with mistakes; `param` is the place of the first."""
        lines = [line.strip() for line in str(error).split("\n")]
        mistakes = lines[1:] or lines
        place = PLACE.match(mistakes[0])
        param = f"grader.{place[2]}" if place and place[1] else "grader"
        return cls("; ".join(line.removeprefix("grader: ") for line in mistakes), param=param, code="invalid_grader")
