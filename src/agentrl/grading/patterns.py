"""Regular expressions that cannot hang: the pattern is the config's, but the text is the model's.

They run on the `regex` library, which reads what `re` reads and can be stopped. Its clock is the time that the whole
process computes, so that beside busy threads a search is stopped rather earlier than later.
"""

from __future__ import annotations

import math
import re
from typing import Any

from agentrl.errors import ConfigError
from agentrl.grading.extras import extra

TIMEOUT_SECONDS = 0.5
MAX_CHARS = 2_000
MAX_REPEATS = 100_000
"""Of all counted repeats such as {40} in a pattern, multiplied: they are written out when it is compiled."""
_COUNT = re.compile(r"\{(\d+)(?:,\d*)?\}")
_VERBOSE = re.compile(r"\(\?[a-zA-Z0-9]*x")
_SPACED_COUNT = re.compile(r"\{[\s\d,]*[\s#]")
"""A count such as { 40 }, which is one under the flag x, with blanks and comments anywhere in it."""


class PatternTimeout(Exception):  # what happened, as in asyncio
    """A search was stopped: nobody knows whether there is a match."""


class Pattern:
    """A regular expression with a time limit for each search.

    Raises:
        ConfigError: it is no pattern, or one too large; or the `regex` library is not installed.
    """

    def __init__(self, pattern: str, *, ignore_case: bool = False, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        regex = extra("regex", f"the pattern {pattern!r:.60}")
        counts = [int(digits[:9]) for digits in _COUNT.findall(pattern)]
        if len(pattern) > MAX_CHARS:
            raise ConfigError(f"found a pattern of {len(pattern):,} characters; allowed: {MAX_CHARS:,}")
        if math.prod(count for count in counts if count) > MAX_REPEATS:
            found = f"found {pattern!r:.60}, whose counted repeats multiply to more than {MAX_REPEATS:,}"
            raise ConfigError(f"{found}; allowed: fewer, such as * with a limit on the text's length")
        if _VERBOSE.search(pattern) and _SPACED_COUNT.search(pattern):
            raise ConfigError(f"found {pattern!r:.60}, with a blank in a counted repeat; allowed: {{40}}")
        try:
            self._compiled: Any = regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
        except (regex.error, RecursionError, OverflowError, ValueError) as error:
            raise ConfigError(f"found {pattern!r:.60}, which is no regular expression ({error})") from error
        self._timeout_seconds = timeout_seconds

    def __repr__(self) -> str:
        return f"Pattern({self._compiled.pattern!r})"

    def search(self, text: str) -> Any:
        """The first match anywhere in the text, or None.

        Raises:
            PatternTimeout: it took too long.
        """
        try:
            return self._compiled.search(text, timeout=self._timeout_seconds, concurrent=True)
        except TimeoutError as error:
            limit = f"more than {self._timeout_seconds:g} s on {len(text):,} characters"
            raise PatternTimeout(f"the pattern {self._compiled.pattern!r:.60} took {limit}") from error
