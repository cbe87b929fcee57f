"""How much may come at once, and how fast: of all clients together, and of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentrl.gateway.errors import ApiError, busy
from agentrl.release.steady_clock import steady_seconds


class Places:
    """A fixed number of requests at once; who finds none is told to come back, nobody waits in a queue."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0
        self.refused = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place, for as long as the request takes.

        Raises:
            ApiError: 503, all are taken.
        """
        if self.taken >= self._most:
            self.refused += 1
            raise busy(f"{self._most} requests are being answered; try again shortly.", code="gateway_full")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Rates:
    """Requests per second of each client, evenly, with up to one second's worth at once.

    The generic cell rate algorithm (ITU-T I.371): one time a client says when its bucket will be empty.
    """

    def __init__(self, per_second: float | None, *, clock: Callable[[], float] = steady_seconds) -> None:
        self._gap = 1.0 / per_second if per_second else 0.0
        self._burst = max(1.0, self._gap)
        self._clock = clock
        self._empty_at: dict[str, float] = {}
        self.refused = 0

    def admit(self, client: str) -> None:
        """Count one request.

        Raises:
            ApiError: 429, with the seconds until the next one may come.
        """
        if not self._gap:
            return
        now = self._clock()
        empty_at = max(self._empty_at.get(client, now), now) + self._gap
        if empty_at - now > self._burst + 1e-9:
            self.refused += 1
            seconds = empty_at - now - self._burst
            message = f"More than {1 / self._gap:g} requests per second; try again in {seconds:.2f} seconds."
            raise ApiError(
                429, message, code="rate_limit_exceeded", kind="rate_limit_error", retry_after_seconds=seconds
            )
        self._empty_at[client] = empty_at
