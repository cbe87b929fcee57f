"""What a client is told where it gets no answer, in OpenAI's form."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that is refused, or that no server answered: {"error": {"message", "type", "param", "code"}}."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def busy(message: str, *, code: str, seconds: float = 1.0) -> ApiError:
    """503: come back later."""
    return ApiError(503, message, code=code, kind="server_error", retry_after_seconds=seconds)
